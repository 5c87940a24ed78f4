"""Supervised fine-tuning with LoRA: the feed, fused layers, memory, the loop."""
