"""Training examples: the forms in which documents and problems are shown, and their words."""
