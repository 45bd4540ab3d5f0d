"""What fits are asked: tests, intervals, effects, scores, checks, comparisons, priors beside REML."""
