"""Who judges answers, and how replies are read."""
