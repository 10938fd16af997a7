"""What the curves of a training mean, and what to do about it."""
