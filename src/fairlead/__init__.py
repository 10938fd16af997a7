"""Fairlead aligns a language model to preferences and proves that it helped."""
