"""Exemplars: which images are kept, how many, and how they are stored."""
