"""Fits in files: saved, loaded, cached."""
