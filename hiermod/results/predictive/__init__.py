"""Does the model make data like these: posterior predictive checks, LOO-PIT, calibration, chains."""
