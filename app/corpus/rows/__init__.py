"""The way from examples to packed rows of token ids."""
