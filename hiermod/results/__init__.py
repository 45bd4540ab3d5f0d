"""What every fit returns: the engines' records behind one vocabulary of tables."""
