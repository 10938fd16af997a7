"""Whether a judge can be trusted: human labels, agreement, probes."""
