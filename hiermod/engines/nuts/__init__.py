"""The PyMC graph by way of Bambi, and NUTS on it."""
