"""What fits a Design: likelihood, the marginal posterior, NUTS on the PyMC graph; each returns a plain record."""
