"""Marginal means, contrasts, slopes and shares of variance."""
