"""Least squares, REML and maximum likelihood."""
