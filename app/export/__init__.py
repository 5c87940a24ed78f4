"""A run's model to take away: adapter or merged weights, GGUF, Modelfile, model card."""
