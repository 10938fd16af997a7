"""Answers and annotations that were made elsewhere."""
