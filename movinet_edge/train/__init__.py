"""Training, and evaluation by the protocols of the literature."""
