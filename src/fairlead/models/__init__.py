"""Loading models, chat templates, and generation. Knows nothing of preferences."""
