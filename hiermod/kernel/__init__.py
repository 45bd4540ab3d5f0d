"""Linear mixed models as arrays: cross-products, blocked elimination, criterion, conditional law (numpy and scipy)."""
