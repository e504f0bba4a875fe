"""Names of folders and files that systems and tools leave among images, and that nobody means as data."""

from __future__ import annotations

# In small letters: file systems differ in case.
_FOLDERS = frozenset(
    {
        "@eadir",  # Synology: thumbnails
        "@tmp",
        "@recycle",  # QNAP
        "@recently-snapshot",
        "@__thumb",
        "#recycle",  # Synology
        "#snapshot",
        "__macosx",  # archives made on a Mac
        "__pycache__",
        "$recycle.bin",  # Windows
        "system volume information",
        "found.000",
        "lost+found",  # Linux
        "network trash folder",  # netatalk
        "temporary items",
        "lost.dir",  # Android
    }
)
_FILES = frozenset(
    {
        "thumbs.db",
        "thumbs.db:encryptable",
        "ehthumbs.db",
        "ehthumbs_vista.db",
        "desktop.ini",
        "icon\r",
        "picasa.ini",
        "zbthumbnail.info",
        "pspbrwse.jbf",
    }
)
# Copies that editors keep, downloads that were cut off, and what Windows notes of a download.
_ENDINGS = ("~", ".bak", ".orig", ".tmp", ".part", ".partial", ".crdownload", ":zone.identifier")


def is_clutter(name: str, is_folder: bool) -> bool:
    """Whether a folder or file of this name is passed over, whatever it holds; what is hidden always is."""
    small = name.lower()
    if small.startswith("."):
        return True
    return small in _FOLDERS if is_folder else small in _FILES or small.startswith("~$") or small.endswith(_ENDINGS)
