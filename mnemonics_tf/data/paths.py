"""Paths of folders as users give them."""

from __future__ import annotations

import os


def absolute(path: str) -> str:
    """The absolute path of what a user gave; `~` is the user's home. An empty path stays empty."""
    return os.path.abspath(os.path.expanduser(path)) if path else path
