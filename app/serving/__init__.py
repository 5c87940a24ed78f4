"""The OpenAI-compatible server: an edge with keys and limits in front of vLLM engines."""
