"""Refits of simulated responses: the parametric bootstrap and the law of a likelihood ratio."""
