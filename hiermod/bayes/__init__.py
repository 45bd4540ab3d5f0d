"""Bayesian engines: priors, the PyMC graph by way of Bambi, NUTS, and the records they return."""
