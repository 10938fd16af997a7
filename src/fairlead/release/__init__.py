"""Evidence, export, model card, checksums, hub and serving: how a judged model leaves the project."""
