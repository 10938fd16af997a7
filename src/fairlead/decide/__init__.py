"""Whether fine-tuning is needed: prompts, examples and documents measured against the project's own targets."""
