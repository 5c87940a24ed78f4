"""How a problem's tests ask, what programs answer to such calls, and further inputs like those that the tests have."""
