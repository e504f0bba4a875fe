"""What pages are built of, and how a thing that a run does not have becomes a sentence on its page."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from mnemonics_tf.report.grids import Grid


class MissingError(Exception):
    """A run has not what a part of its page needs. The text is a sentence for the page."""


@dataclasses.dataclass(frozen=True)
class Text:
    """A paragraph; `missing` marks one that stands in the place of something."""

    text: str
    missing: bool = False
    kind: str = "text"


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure.

    Attributes:
      svg: safe markup, as `drawing.finish` returns it.
      caption: what is to be seen.
      phase: shown when this phase is picked; None always.
      file: name of its files in `figures/`; empty if it has none.
    """

    svg: str
    caption: str
    phase: int | None = None
    file: str = ""
    kind: str = "picture"


@dataclasses.dataclass(frozen=True)
class Choice:
    """Buttons that filter the curves below them by series: number and name of each."""

    series: tuple[tuple[int, str], ...]
    kind: str = "choice"


@dataclasses.dataclass(frozen=True)
class TableBlock:
    """A table; its first column is a name."""

    grid: Grid
    kind: str = "table"


@dataclasses.dataclass(frozen=True)
class Strip:
    """Exemplars of one class side by side, at several moments.

    Attributes:
      name: of the class.
      pictures: a moment and an image as a data address, `data:image/webp;base64,...`, for each.
    """

    name: str
    pictures: tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True)
class Gallery:
    """Strips of the classes that a phase brought.

    Attributes:
      phase: shown when this phase is picked.
      strips: one for each class that is shown.
      width: of a strip on the screen, in pixels.
      note: what is not shown; empty if nothing.
    """

    phase: int
    strips: tuple[Strip, ...]
    width: int
    note: str = ""
    kind: str = "gallery"


@dataclasses.dataclass(frozen=True)
class Listing:
    """Text as it is, such as a configuration or a command."""

    text: str
    title: str = ""
    folded: bool = False
    kind: str = "listing"


Block = Text | Picture | Choice | TableBlock | Gallery | Listing


@dataclasses.dataclass(frozen=True)
class Section:
    """A titled part of a page.

    Attributes:
      anchor: its place in addresses.
      title: what stands above it.
      blocks: from top to bottom.
    """

    anchor: str
    title: str
    blocks: tuple[Block, ...]

    @property
    def phases(self) -> list[int]:
        """The phases that can be picked in it."""
        own = {block.phase for block in self.blocks if isinstance(block, Picture | Gallery)}
        return sorted(phase for phase in own if phase is not None)


def present(make: Callable[[], Sequence[Block]]) -> list[Block]:
    """The blocks that `make` makes, or one that says what is missing."""
    try:
        return list(make())
    except MissingError as error:
        return [Text(str(error), missing=True)]
