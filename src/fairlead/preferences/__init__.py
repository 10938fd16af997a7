"""Preference data: reading, sampling, pairing, checking and splitting. Judging is done by `fairlead.judges`."""
