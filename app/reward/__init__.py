"""Self-reward: problems with executed tests, drafts, verdicts, and what is learnt from them."""
