"""Evaluation: comparison of models with error bars, statistics on arrays, and evaluation files from elsewhere."""
