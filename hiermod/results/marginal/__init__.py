"""What a model says of its variables: means, contrasts, slopes, and the variance they explain."""
