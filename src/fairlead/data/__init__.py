"""Reads data files, checks their rows and writes them in one form."""
