"""Monitoring of a training while it runs, within a time budget."""
