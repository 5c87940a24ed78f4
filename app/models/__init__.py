"""Base weights, their configs, and the LoRA adapters on them."""
