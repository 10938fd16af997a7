"""Values of the config that are checked by more than their type: patterns, schemas, endpoints."""
