"""Residuals, influence and what they say about a model's assumptions."""
