"""A GGUF file as a base model: converted once into a folder as transformers writes it, and kept in the user's cache."""
