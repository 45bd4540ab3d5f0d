"""Priors beside the data's own answer: agreement, conflict, sensitivity, prior predictive."""
