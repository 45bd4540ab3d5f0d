"""Several fits side by side: estimates, criteria, scores, likelihood ratios."""
