"""What of the source is kept: cleaning, secrets, duplicates, and the guard of the benchmarks."""
