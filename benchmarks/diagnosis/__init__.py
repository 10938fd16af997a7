"""Failure modes made on purpose, and what the diagnosis names."""
