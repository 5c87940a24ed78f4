"""The search space of evolution, and mutation in it. AlphaEvolve's scheduler and the GPU slot policy come with that
stage."""
