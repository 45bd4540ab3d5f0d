"""Covariance: structures of a group term (structure.py, one file for each), and of the residuals of rows."""
