"""A run in a folder: its files, and networks that runs share."""
