"""Runs the graph of stages: artifacts, keys, locks, status. Knows no machine learning."""
