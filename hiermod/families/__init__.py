"""Distributions of the response: one file for each family, found by name in catalogue.py."""
