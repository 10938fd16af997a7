"""Where replies are kept: the database, the rows, the keys of requests."""
