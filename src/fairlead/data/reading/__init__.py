"""Reads rows of data files: forms, fields, and errors that name the row."""
