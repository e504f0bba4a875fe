"""How figures look, and the forms in which they are kept: files in the style of a paper, and SVG within a page.

A figure is drawn once. Its ink is a colour that occurs nowhere else, so that in the page, and there alone, it follows
the reader's scheme: dark on light, or light on dark.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mnemonics_tf.report.page.blocks import Block, Choice, Picture
from mnemonics_tf.system import screen

_SVG = "http://www.w3.org/2000/svg"
_LINK = "http://www.w3.org/1999/xlink"
ElementTree.register_namespace("", _SVG)
ElementTree.register_namespace("xlink", _LINK)

INK, GRID = "#010203", "#d0d1d2"
_ENLARGED = 1.7  # pixels of the page to a point of the figure
_LETTERS = 40  # of a name in a legend below a figure
_VARIABLES = {INK: "var(--ink)", GRID: "var(--grid)"}

# Told apart by eyes that see few colours, and readable on white as on dark grey (after Okabe and Ito).
COLOURS = ("#3b82c4", "#d9772b", "#2a9d74", "#c4528d", "#8467c9", "#a98a12", "#3f9fb5", "#9a5b3c")
_LINES = ("-", "--", ":", "-.")  # where there are more series than colours

_STYLE = {
    "font.size": 9,
    "font.family": "sans-serif",
    "text.color": INK,
    "text.parse_math": False,  # names may have dollar signs
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "mnemonics_tf",  # the same figure has the same bytes
    "pdf.fonttype": 42,
    "savefig.transparent": True,
}
_FORMATS: Mapping[str, dict] = {
    "svg": {"metadata": {"Date": None}},
    "png": {"dpi": 200, "transparent": False, "facecolor": "white"},
    "pdf": {"metadata": {"CreationDate": None}},
}


class Sketch:
    """A figure under way, with what its parts say to the pointer.

    Parts of one series are hidden and shown together.
    """

    def __init__(self, figure: Figure):
        self.figure = figure
        self.tips: dict[str, str] = {}

    def part(self, series: int | None = None, tip: str = "") -> str:
        """An id for an artist (its `gid`).

        Args:
          series: number of the series that it belongs to; None for none.
          tip: what is shown when the pointer is on it; empty for nothing.
        """
        number = len(self.tips)
        gid = f"part{number}-{'' if series is None else series}"
        self.tips[gid] = tip
        return gid


# Draws on a sketch, and returns number and name of each series if they can be filtered.
Draw = Callable[..., list[tuple[int, str]] | None]


def drawn(
    name: str, size: tuple[float, float], caption: str, folder: str | None, draw: Draw, *arguments: Any
) -> list[Block]:
    """A figure for a page, with buttons before it if it has several series.

    Args:
      name: of its files, unique on the page.
      size: width and height in inches.
      caption: what is to be seen.
      folder: where its files go; None writes none.
      draw: called with a sketch and `arguments`.
      arguments: what is drawn.
    """
    with sketch(*size) as figure:
        series = draw(figure, *arguments)
        svg = finish(figure, name, folder, caption)
    picture = Picture(svg, caption, file="" if folder is None else name)
    return [Choice(tuple(series)), picture] if series and len(series) > 1 else [picture]


@contextlib.contextmanager
def sketch(width: float, height: float) -> Iterator[Sketch]:
    """A new figure of some inches; all that is drawn inside has the style of ours."""
    # It tells every step of embedding a font, where something has let messages of all levels through.
    logging.getLogger("fontTools").setLevel(logging.ERROR)
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of characters that no font has: names may be in any script
        yield Sketch(Figure(figsize=(width, height), layout="constrained"))


def look(series: int) -> tuple[str, str]:
    """Colour and line of a series, no two of the first 32 alike."""
    return COLOURS[series % len(COLOURS)], _LINES[series // len(COLOURS) % len(_LINES)]


def whole_numbers(axes: Axes) -> None:
    """Has phases or epochs below the axes, of which there are no halves."""
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, min_n_ticks=1))


def legend_outside(axes: Axes) -> None:
    """A legend at the right of the axes, where it hides no curve."""
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0)


def legend_below(figure: Figure, handles: Mapping[str, Any]) -> None:
    """A legend below all axes of a figure, in as many columns as the figure is wide enough for, 6 at most.

    Args:
      figure: has no other legend of its own.
      handles: what stands beside each name.
    """
    names = [screen.shortened(name, _LETTERS) for name in handles]
    for columns in range(min(6, len(names)), 0, -1):
        legend = figure.legend(handles.values(), names, loc="outside lower center", ncols=columns)
        if legend.get_window_extent().width <= figure.bbox.width or columns == 1:
            return
        legend.remove()


def finish(drawn: Sketch, name: str, folder: str | None, title: str) -> Markup:
    """Saves a figure, and returns it as SVG for a page.

    Args:
      drawn: the figure; called within `sketch`.
      name: of the files, and what ids in the page begin with; unique on the page.
      folder: where `NAME.png`, `NAME.svg` and `NAME.pdf` go, white behind them; None writes none.
      title: what those are told who do not see it.
    """
    buffer = io.BytesIO()
    drawn.figure.savefig(buffer, format="svg", **_FORMATS["svg"])
    drawn.figure.set_layout_engine("none")  # what has its place by now keeps it: finding places takes long
    if folder is not None:
        for form, options in _FORMATS.items():
            path = os.path.join(folder, f"{name}.{form}")
            if form == "svg":
                with open(path, "wb") as file:
                    file.write(buffer.getvalue())
            else:
                drawn.figure.savefig(path, format=form, **options)
    return _for_page(buffer.getvalue(), name, drawn.tips, title)


def _for_page(svg: bytes, name: str, tips: Mapping[str, str], title: str) -> Markup:
    """SVG that stands within a page: ids of its own, colours of the page, and what its parts say."""
    root = ElementTree.fromstring(svg)
    root.attrib.pop("height", None)
    # As wide as it was drawn, a little enlarged, but no wider than the page.
    points = float(root.attrib.pop("width").removesuffix("pt"))
    root.set("style", f"--width: {points * _ENLARGED:.0f}px")
    root.set("role", "img")
    root.set("aria-label", title)
    for child in list(root):
        if child.tag == f"{{{_SVG}}}metadata":
            root.remove(child)
    for parent in root.iter():
        for style in parent.findall(f"{{{_SVG}}}style"):
            parent.remove(style)  # it would hold for the whole page
    for element in root.iter():
        _own(element, name, tips)
    text = ElementTree.tostring(root, encoding="unicode")
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    return Markup(text)


def _own(element: ElementTree.Element, name: str, tips: Mapping[str, str]) -> None:
    gid = element.get("id")
    if gid is not None:
        element.set("id", f"{name}-{gid}")
        if gid in tips:
            series = gid.partition("-")[2]
            if series:
                element.set("data-series", series)
            if tips[gid]:
                element.set("data-tip", tips[gid])
    for key, value in element.attrib.items():
        if key == f"{{{_LINK}}}href" and value.startswith("#"):
            element.set(key, f"#{name}-{value[1:]}")
        elif "url(#" in value:
            element.set(key, value.replace("url(#", f"url(#{name}-"))
