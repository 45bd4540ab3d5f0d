"""REML, ML and ordinary least squares: engines that return plain records."""
