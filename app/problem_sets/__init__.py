"""Rows of benchmark files as problems with tests: what suites measure and what the corpus trains on."""
