"""How notebooks show things: HTML without scripts or style sheets."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence

import numpy as np
import tensorflow as tf

from mnemonics_tf.data.pixels import to_uint8

_MOST_ROWS = 30
_MOST_PICTURES = 40
_SIDE = 48  # pixels of a picture on the page


def table(titles: Sequence[str], rows: Sequence[Iterable[str]]) -> str:
    """A table of texts; after 30 rows it says how many more there are."""

    def row(cells: Iterable[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    shown = "".join(row(cells, "td") for cells in rows[:_MOST_ROWS])
    more = f"<p>and {len(rows) - _MOST_ROWS} more</p>" if len(rows) > _MOST_ROWS else ""
    return f"<table>{row(titles, 'th')}{shown}</table>{more}"


def learner(title: str, reached: Sequence[object], memory: str) -> str:
    """A learner: its title as text, the accuracy that each call of `learn` has reached, and its memory as HTML."""
    rows = [(f"{call}", f"{getattr(each, 'accuracy', float('nan')):.2f}") for call, each in enumerate(reached)]
    history = table(("learn", "accuracy of what came (%)"), rows) if rows else ""
    return f"<p>{html.escape(title)}</p>{history}{memory}"


def pictures(images: np.ndarray, names: Sequence[str]) -> str:
    """Some images side by side, at most 40, taken evenly over all of them.

    Args:
      images: `[n, H, W, C]` on the scale 0..255, with 1 or 3 channels.
      names: shown when the pointer rests on an image, n names.
    """
    positions = np.unique(np.linspace(0, len(images) - 1, min(len(images), _MOST_PICTURES)).round().astype(int))
    tags = []
    for position in positions[: len(images)]:
        encoded = tf.io.encode_png(to_uint8(images[position])).numpy()
        tags.append(
            f'<img src="data:image/png;base64,{base64.b64encode(encoded).decode()}" width="{_SIDE}" '
            f'style="image-rendering: pixelated; margin: 1px" title="{html.escape(names[position], quote=True)}">'
        )
    return f"<div>{''.join(tags)}</div>"
