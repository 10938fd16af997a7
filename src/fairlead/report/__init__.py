"""The report and its summary."""
