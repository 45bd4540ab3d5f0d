"""Text and data frame in, one immutable Design out.  The only package that imports formulae."""
