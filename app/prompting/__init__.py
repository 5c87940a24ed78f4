"""What is said to a model and read out of its replies: protocols, fences, fill-in, tool calls."""
