"""People's files in, checked rows out."""
