"""The forward that computes each common beginning once."""
