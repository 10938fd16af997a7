"""Releases a judged model: evidence, export, model card, checksums, upload to a hub, serving."""
