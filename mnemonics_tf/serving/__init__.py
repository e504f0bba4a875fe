"""Models that can be served without this package."""
