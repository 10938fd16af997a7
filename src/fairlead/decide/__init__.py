"""Whether to fine-tune at all: instructions, examples and retrieval measured against the targets."""
