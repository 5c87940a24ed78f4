"""Best of n with tests: drafts of one question are run on the examples that the question states, agreement on further
inputs breaks ties, and the best failing one is repaired once."""
