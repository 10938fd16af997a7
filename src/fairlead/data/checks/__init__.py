"""The checks of pairs, SFT rows and prompts. Knows nothing of files and stages."""
