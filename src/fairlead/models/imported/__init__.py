"""Models made elsewhere: their files, and whether they fit the base."""
