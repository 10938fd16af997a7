"""What would stop a run, found before its first stage, all at once."""
