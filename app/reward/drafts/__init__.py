"""Drafts of problems with their verdicts, and what they say of problem and model."""
