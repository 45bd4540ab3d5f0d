"""Predictive checks and calibration of Bayesian fits."""
