"""Learning from drafts that were drawn before."""
