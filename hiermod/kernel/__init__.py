"""Linear mixed models as arrays: sums over rows, blocked elimination, criterion, conditional law (numpy and scipy)."""
