"""Exact posteriors of Gaussian models: the few variance parameters are sampled, all effects integrated out."""
