"""What is done to the files of a run: bits flipped, ends cut off, files exchanged, and other types in JSON."""

from __future__ import annotations

import filecmp
import json
import os
import random
import shutil
from collections.abc import Callable, Sequence

Damage = Callable[..., bool]  # of a file's path and what draws; whether anything could be done


def flip(path: str, draw: random.Random) -> bool:
    """Changes one bit."""
    return _rewritten(path, lambda content: _flipped(content, draw))


def cut(path: str, draw: random.Random) -> bool:
    """Cuts the end off."""
    os.truncate(path, draw.randrange(max(1, os.path.getsize(path))))
    return True


def lengthen(path: str, draw: random.Random) -> bool:
    """Adds bytes at the end."""
    return _rewritten(path, lambda content: content + draw.randbytes(draw.randrange(1, 100)))


def lose(path: str, draw: random.Random) -> bool:
    """Removes the file."""
    os.remove(path)
    return True


def zero(path: str, draw: random.Random) -> bool:
    """Fills a block with zeros, as a power cut does."""
    return _rewritten(path, lambda content: content[: len(content) // 2] + bytes(len(content) - len(content) // 2))


def swap(path: str, draw: random.Random, others: Sequence[str] = ()) -> bool:
    """Puts the file of the same name of another phase in its place; one of `others` if there is none."""
    phases = [path.replace(f"/{phase:03d}", f"/{other:03d}") for phase in range(3) for other in range(3)]
    found = [each for each in phases if each != path and os.path.isfile(each)]
    found = found or [each for each in others if each != path and not filecmp.cmp(path, each, shallow=False)]
    if not found:
        return False
    chosen = draw.choice(found)
    is_other = not filecmp.cmp(path, chosen, shallow=False)
    shutil.copyfile(chosen, path)
    return is_other


def retype(path: str, draw: random.Random) -> bool:
    """Puts a value of another type in the place of one of a JSON file's."""
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except ValueError:
        return False
    places = list(_places(content))
    if not places:
        return False
    owner, key = draw.choice(places)
    others = [None, True, -1, 1e308, "text", [], {}, [[]], {"a": {"b": 1}}, 2**70, "\033[31m", float("nan")]
    owner[key] = draw.choice([each for each in others if type(each) is not type(owner[key])])
    with open(path, "w", encoding="utf-8") as file:
        json.dump(content, file)
    return True


DAMAGES: tuple[Damage, ...] = (flip, cut, lengthen, lose, zero, swap, retype)


def _rewritten(path: str, change: Callable[[bytes], bytes]) -> bool:
    with open(path, "rb") as file:
        before = file.read()
    after = change(before)
    with open(path, "wb") as file:
        file.write(after)
    return after != before


def _flipped(content: bytes, draw: random.Random) -> bytes:
    changed = bytearray(content)
    if changed:
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _places(content):
    """Each place in a JSON value that can be given another: its owner, and the key."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        yield content, key
        yield from _places(value)
