"""Hypotheses about the common coefficients and their degrees of freedom."""
