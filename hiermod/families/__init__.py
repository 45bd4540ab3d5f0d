"""Distributions of the response: links, likelihoods, random responses."""
