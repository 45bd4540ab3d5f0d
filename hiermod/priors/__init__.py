"""Prior distributions, those that a person gives, and the defaults."""
