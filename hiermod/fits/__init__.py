"""What a fit is: estimates, predictions and simulated responses in one vocabulary, whatever the engine."""
