"""Benchmarks: suites, measurements, statistics, and what of them the training data hold."""
