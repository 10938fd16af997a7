"""Near-duplicates and other facts of texts."""
