"""The search space of evolution, mutation in it, the scheduler of its population, and the slots of a card in which it
trains."""
