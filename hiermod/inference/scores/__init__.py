"""How well a model predicts what it has not seen: leave-one-out, leave-one-group-out, K-fold and WAIC."""
