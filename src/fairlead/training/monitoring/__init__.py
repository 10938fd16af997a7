"""What is seen of a training while it runs, within a budget of time."""
