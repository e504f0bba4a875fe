"""Folders of JPEG files that look a little like photographs, each class a kind of thing, some of them stored turned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

_TURNS = {
    1: 0,
    3: 2,
    6: 1,
    8: 3,
}  # EXIF orientation: quarter turns, counter-clockwise, that store an upright picture so

_Mask = Callable[[np.ndarray, np.ndarray], np.ndarray]

# Each a function of places relative to the thing's middle, in units of its size: where the thing is.
_THINGS: dict[str, _Mask] = {
    "barred": lambda y, x: _square(y, x) & (np.floor(y * 3.5) % 2 == 0),
    "checked": lambda y, x: _square(y, x) & ((np.floor(y * 2.5) + np.floor(x * 2.5)) % 2 == 0),
    "cross": lambda y, x: _square(y, x) & ((np.abs(y) < 0.3) | (np.abs(x) < 0.3)),
    "disc": lambda y, x: y**2 + x**2 < 1,
    "fence": lambda y, x: _square(y, x) & (np.floor(x * 3.5) % 2 == 0),
    "frame": lambda y, x: _square(y, x) & ((np.abs(y) > 0.6) | (np.abs(x) > 0.6)),
    "ring": lambda y, x: (y**2 + x**2 < 1) & (y**2 + x**2 > 0.35),
    "spots": lambda y, x: _square(y, x) & ((y * 2.5 % 1 - 0.5) ** 2 + (x * 2.5 % 1 - 0.5) ** 2 < 0.1),
    "tower": lambda y, x: (np.abs(x) < 0.35) & (np.abs(y) < 1.2),
    "wedge": lambda y, x: (np.abs(y) < 1) & (np.abs(x) < (y + 1) / 2),
}
NAMES = tuple(_THINGS)


def _square(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    return (np.abs(y) < 1) & (np.abs(x) < 1)


def picture(name: str, seed: int, height: int = 90, width: int = 120) -> np.ndarray:
    """A thing of some colour and size somewhere before a blurred background: `[height, width, 3]` uint8."""
    generator = np.random.default_rng([NAMES.index(name), seed])
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    ground, slope = generator.uniform(40, 180, 3), generator.uniform(-60, 60, (2, 3))
    image = ground + slope[0] * (y / height - 0.5)[..., None] + slope[1] * (x / width - 0.5)[..., None]
    coarse = Image.fromarray(generator.integers(0, 256, (6, 8, 3), np.uint8)).resize((width, height), Image.BICUBIC)
    image += 0.25 * (np.asarray(coarse) - 128.0)
    size = generator.uniform(0.22, 0.36) * height
    middle = height * generator.uniform(0.42, 0.58), width * generator.uniform(0.4, 0.6)
    turn = generator.normal(0, 0.12)  # as a hand holds a camera
    down, right = (y - middle[0]) / size, (x - middle[1]) / size
    mask = _THINGS[name](down * np.cos(turn) + right * np.sin(turn), right * np.cos(turn) - down * np.sin(turn))
    colour = generator.uniform(0, 255, 3)
    colour += np.sign(colour.mean() - ground.mean()) * 50  # never that of the background
    image = np.where(mask[..., None], 0.85 * colour + 0.15 * image, image)
    return np.clip(image + generator.normal(0, 6, image.shape), 0, 255).astype(np.uint8)


def write(root: Path, names: Sequence[str], count: int, first: int = 0, **size: int) -> Path:
    """Writes `count` pictures of each class into `root/<class>/`; every third is stored turned, and says so by EXIF."""
    for name in names:
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(first, first + count):
            orientation = (3, 6, 8)[number // 3 % 3] if number % 3 == 0 else 1
            exif = Image.Exif()
            exif[0x0112] = orientation
            stored = Image.fromarray(np.rot90(picture(name, number, **size), _TURNS[orientation]))
            stored.save(root / name / f"{number:03d}.jpg", quality=90, exif=exif)
    return root
