"""Many trainings from one reference: which β."""
