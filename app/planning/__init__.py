"""Plans, made before anything runs: memory, disk and days of each phase, and what to change."""
