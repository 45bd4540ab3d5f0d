"""LOO, leave-one-group-out, WAIC and K-fold of a fit."""
