"""Residuals, group effects and influence: the assumptions of a fit."""
