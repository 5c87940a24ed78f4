"""What is learnt from: problems with tests, and further tests for them."""
