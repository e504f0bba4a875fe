"""Data sets, the order and stream of their classes, and the input pipelines."""
