"""What every room uses: argument checks, annotated tables, files, jobs, progress, the versions of other packages."""
