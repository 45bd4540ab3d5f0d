"""Each group's estimates as tables: lines, shrinkage, pairs of effects, the path from complete to no pooling."""
