"""Pieces that work without a project: scores of a model or of answers, and preference pairs, from Python."""
