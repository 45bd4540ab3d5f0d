"""What is printed and written: summaries, equations, methods texts, files of fits."""
