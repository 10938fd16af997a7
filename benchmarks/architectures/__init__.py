"""The table of docs/architectures.md: how each decoder family of transformers is trained and decoded."""
