"""The model written down: equations level by level, and matrices."""
