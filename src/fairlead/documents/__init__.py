"""What stages persist as JSON, as frozen types: one file per document, read with validation."""
