"""`fairlead judge …`: how far a judge can be trusted, its cost, its stored replies."""
