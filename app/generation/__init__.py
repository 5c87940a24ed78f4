"""Engines that draw completions, transformers and vLLM, behind the protocol `app.records.Generator`."""
