"""Measurements of the demo as a whole."""
