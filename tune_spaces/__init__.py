"""The search space of evolution, mutation in it, and the scheduler of its population. The GPU slot policy comes with
that stage."""
