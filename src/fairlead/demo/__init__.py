"""The built-in incident-triage task and the small base model trained for it; no real project imports this."""
