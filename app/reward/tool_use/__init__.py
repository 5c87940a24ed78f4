"""Learning to call tools: problems made of documented functions, and what a call is worth."""
