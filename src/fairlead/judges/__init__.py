"""Judges: who says which of two answers is better, and how good one is."""
