"""Loading, adapters, generation and log-probabilities of models on this machine."""
