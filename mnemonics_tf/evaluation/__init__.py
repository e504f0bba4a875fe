"""Classifiers and metrics."""
