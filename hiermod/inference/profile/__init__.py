"""Profile likelihood: the deviance with one parameter held."""
