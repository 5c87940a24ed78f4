"""The search space, the AlphaEvolve scheduler and the GPU slot policy of evolution: they come with that stage."""
