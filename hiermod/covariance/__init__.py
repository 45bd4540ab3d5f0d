"""Structures of the covariance of a group term: one protocol (structure.py), one file for each structure."""
