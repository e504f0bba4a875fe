"""What a run would find in a folder of images: `python -m mnemonics_tf.data.check DIR`.

Every file is decoded as a run on the data source `folder` does it, and nothing is trained. Exit code 0: a run can use
the folder, if need be with the settings that the last line names; 1: it can, but pictures had to be skipped or passed
over and --strict is given; 2: a run would refuse it.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from absl import app, flags

from mnemonics_tf.system import screen, stopping

# TensorFlow takes seconds to import, and --help needs none of it: what uses it is imported once the flags are known.
if TYPE_CHECKING:
    from mnemonics_tf.checks import UsageError
    from mnemonics_tf.data.listing import PassedOver
    from mnemonics_tf.data.types import LabelledImages

_SKIPPED = 1  # the exit code under --strict

_IMAGE_SIZE = flags.DEFINE_integer("image_size", 64, "folder.image_size of the run: side of the images, in pixels.")
_STRICT = flags.DEFINE_bool("strict", False, "Exit code 1 if a picture had to be skipped or passed over.")
_NUM_PHASES = flags.DEFINE_integer("num_phases", 5, "Protocol.num_phases of the run: phases after the initial one.")
_PER_CLASS = flags.DEFINE_integer("per_class", 20, "ExemplarMemory.per_class of the run: exemplars of each class.")


@dataclasses.dataclass(frozen=True)
class Traits:
    """What is kept of an image once it has been decoded.

    Attributes:
      height: of the upright image, in pixels.
      width: of the upright image, in pixels.
      grey: whether what a run sees of it is all shades of grey.
      alpha: whether it is a PNG with transparency.
      turned: whether it is stored in another orientation than upright.
      kind: its format, such as `JPEG`.
    """

    height: int
    width: int
    grey: bool
    alpha: bool
    turned: bool = False
    kind: str = ""


@dataclasses.dataclass
class Totals:
    """Sums over images, of a size that does not depend on their number.

    Attributes:
      image_size: side to which a run brings the images, in pixels.
      heights: the smallest and the largest height of the upright images, in pixels; None without images.
      widths: the smallest and the largest width, in pixels; None without images.
      num_enlarged: images with a side shorter than `image_size`.
      num_grey: images in shades of grey.
      num_alpha: PNG images with transparency.
      num_turned: images that are turned upright.
      kinds: number of images of each format.
    """

    image_size: int
    heights: tuple[int, int] | None = None
    widths: tuple[int, int] | None = None
    num_enlarged: int = 0
    num_grey: int = 0
    num_alpha: int = 0
    num_turned: int = 0
    kinds: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)

    def add(self, image: Traits) -> None:
        """Counts one more image."""
        self.heights = _extended(self.heights, image.height)
        self.widths = _extended(self.widths, image.width)
        self.num_enlarged += min(image.height, image.width) < self.image_size
        self.num_grey += image.grey
        self.num_alpha += image.alpha
        self.num_turned += image.turned
        self.kinds[image.kind] += 1


@dataclasses.dataclass(frozen=True)
class Findings:
    """What is in a folder.

    Attributes:
      root: its absolute path.
      class_names: by class id.
      splits: name of each split and the number of readable images of each of its classes, `[num_classes]`. Images that
        a run splits itself are counted as it would split them by default.
      held_out: whether a run splits the images itself.
      num_files: image files, readable or not.
      skipped: a line for each file that cannot be read, with its reason.
      refusal: why a run would refuse the folder for want of readable images, or None.
      in_memory: whether a run holds the images in memory by default.
      totals: over all images that can be read.
      passed_over: files that are no images which a run reads.
      notices: what else a run would say of the folder, a line each.
    """

    root: str
    class_names: tuple[str, ...]
    splits: dict[str, np.ndarray]
    held_out: bool
    num_files: int
    skipped: list[str]
    refusal: UsageError | None
    in_memory: bool
    totals: Totals
    passed_over: PassedOver
    notices: list[str] = dataclasses.field(default_factory=list)

    @property
    def num_lost(self) -> int:
        """Pictures that a run does without."""
        return len(self.skipped) + self.passed_over.pictures.total()


def main(argv: list[str]) -> int:
    """Checks the folder and prints what is in it. Returns the exit code."""
    from mnemonics_tf import checks

    try:
        if len(argv) != 2:
            what = f"Unexpected argument {argv[2]!r}: expected" if len(argv) > 2 else "No DIR was given. Give"
            raise checks.UsageError(f"{what} one folder, such as python -m mnemonics_tf.data.check /my/images.")
        checks.check_positive_integer(**{"--image_size": _IMAGE_SIZE.value})
        checks.check_non_negative_integer(**{"--num_phases": _NUM_PHASES.value, "--per_class": _PER_CLASS.value})
        with screen.quiet():
            import mnemonics_tf.data.reading  # noqa: F401  # loads TensorFlow
        found = find(argv[1], _IMAGE_SIZE.value)
        last = verdict(found, _STRICT.value, _NUM_PHASES.value, _PER_CLASS.value)
        _show([*report(found), last])
        if found.refusal:
            raise found.refusal
    except checks.UsageError as error:
        if flags.FLAGS["verbosity"].present:
            raise
        print(f"mnemonics_tf: {error}", file=sys.stderr)
        return screen.USAGE_ERROR
    return _SKIPPED if _STRICT.value and found.num_lost else 0


def find(path: str, image_size: int) -> Findings:
    """Decodes every image below a folder, keeping none.

    Args:
      path: the folder, as `folder.path`.
      image_size: side of the square images of a run, in pixels.

    Raises:
      UsageError: no such folder, or folders that are not laid out as the data source expects.
    """
    from mnemonics_tf import checks
    from mnemonics_tf.data import folder, reading
    from mnemonics_tf.data.listing import PassedOver, notices, root_of, scan

    root = root_of(path)
    class_names, listings = scan(root)
    parts = folder.parts(listings, image_size)
    totals = Totals(image_size)
    counts: list[np.ndarray] = []
    skipped: list[str] = []
    refusal = None
    for part, split in zip(parts, ("training", "test"), strict=True):
        sizes, reasons = _look_through(part, len(class_names), totals, f"checking {split} images")
        counts.append(sizes)
        skipped += _skipped_lines(part, reasons, root)
        try:
            reading.check_enough(part, reasons, class_names, split)
        except checks.UsageError as error:
            refusal = refusal or error
    held_out = len(listings) == 1
    if held_out:
        skipped.sort()  # the user sees one set of images
    if held_out and refusal:
        splits = {"images": counts[0] + counts[1]}
    else:
        names = ("train", "test") if held_out else tuple(os.path.basename(listing.root) for listing in listings)
        splits = dict(zip(names, counts, strict=True))
    num_files = sum(map(len, parts))
    in_memory = folder.is_held_in_memory(num_files, image_size)
    return Findings(
        root=root,
        class_names=class_names,
        splits=splits,
        held_out=held_out and not refusal,
        num_files=num_files,
        skipped=skipped,
        refusal=refusal,
        in_memory=in_memory,
        totals=totals,
        passed_over=functools.reduce(PassedOver.joined, (listing.passed_over for listing in listings)),
        notices=notices(listings),
    )


def _look_through(
    part: LabelledImages, num_classes: int, totals: Totals, title: str
) -> tuple[np.ndarray, dict[int, str]]:
    """Readable images of each class `[num_classes]`, and why the others are not. Adds to `totals`."""
    from mnemonics_tf.data import reading

    sizes = np.zeros(num_classes, np.int64)
    reasons: dict[int, str] = {}
    results = reading.decode_each(reading.in_files(part), _inspector(totals.image_size), title)
    for row, (label, result) in enumerate(zip(part.labels, results, strict=True)):
        if isinstance(result, str):
            reasons[row] = result
        else:
            sizes[label] += 1
            totals.add(result)
    return sizes, reasons


def _skipped_lines(part: LabelledImages, reasons: dict[int, str], root: str) -> list[str]:
    """A line for each file that cannot be read: its path below `root` and the reason."""
    from mnemonics_tf.data import reading

    images = reading.in_files(part)
    return [f"{os.path.relpath(images.place(row), root)}: {reason}" for row, reason in reasons.items()]


def _inspector(image_size: int) -> Callable[[bytes], Traits]:
    """A function of a file's content that decodes and resizes as a run does, and returns what it saw."""
    from mnemonics_tf.data import decoding, headers

    resize = decoding.resizer(image_size, image_size)

    def inspect(data: bytes) -> Traits:
        image = decoding.pixels(data)
        square = resize(image).numpy()
        height, width = image.shape[:2]
        is_grey = bool((square == square[..., :1]).all())
        kind = headers.format_of(data[: headers.HEAD]) or ""
        return Traits(height, width, is_grey, has_alpha(data), headers.orientation(data) != 1, kind)

    return inspect


def has_alpha(data: bytes) -> bool:
    """Whether the head of a PNG file says that it has transparency; False for other formats."""
    # Bit 2 of the colour type is an alpha channel; a block tRNS before the pixels makes single colours transparent.
    return data.startswith(b"\x89PNG") and (bool(data[25] & 4) or data.find(b"tRNS", 0, data.find(b"IDAT")) > 0)


def report(found: Findings) -> list[str]:
    """What was found, in lines: splits, sizes, colours, memory, phases, and files that are skipped or passed over."""
    from mnemonics_tf.data.listing import by_ending

    totals = found.totals
    rows = [(name, _numbers_text(sizes, found.class_names)) for name, sizes in found.splits.items()]
    if found.held_out:
        rows.append(("", "as a run splits them by default: see folder.test_share and folder.split_seed"))
    if totals.heights and totals.widths:
        rows += _totals_rows(found)
    rows.append(("phases", _phases_text(len(found.class_names))))
    rows.append(("skipped", f"{len(found.skipped):,} of {found.num_files:,} files{':' * bool(found.skipped)}"))
    count = len(found.class_names)
    title = f"{found.root}: {count:,} class{'es' * (count != 1)}"
    lines = [title, *(f"{name:<9} {text}" for name, text in rows), *(f"  {line}" for line in found.skipped)]
    others = found.passed_over.others
    if others:
        lines.append(f"{'others':<9} {others.total():,} files that are no pictures: {by_ending(others)}")
    return [*lines, *(f"{'note':<9} {line}" for line in found.notices)]


def _totals_rows(found: Findings) -> list[tuple[str, str]]:
    totals, size = found.totals, found.totals.image_size
    if not (totals.heights and totals.widths):
        return []
    shares = [f"{count:,} {kind} ({count / totals.kinds.total():.0%})" for kind, count in totals.kinds.most_common()]
    sides = f"{_range(totals.widths)} pixels wide, {_range(totals.heights)} high"
    rows = [("formats", ", ".join(shares))] if shares else []
    rows.append(("sizes", f"{sides}; {totals.num_enlarged:,} with a side below {size}, to be enlarged"))
    if totals.num_turned:
        rows.append(("turned", f"{totals.num_turned:,} stored sideways or mirrored (EXIF), which are turned upright"))
    grey, alpha = f"{totals.num_grey:,} in shades of grey", f"{totals.num_alpha:,} PNG with transparency"
    rows.append(("colours", f"{grey}; {alpha}, which is dropped"))
    num_bytes = sum(int(sizes.sum()) for sizes in found.splits.values()) * size**2 * 3
    use = "held in memory" if found.in_memory else "read from their files in every epoch"
    rows.append(("memory", f"{_amount(num_bytes)} for the images at {size} x {size}, {use} by default"))
    return rows


def _numbers_text(sizes: np.ndarray, class_names: tuple[str, ...]) -> str:
    smallest, largest = int(sizes.argmin()), int(sizes.argmax())
    return (
        f"{sizes.sum():,} images; of a class {sizes[smallest]:,} ({class_names[smallest]!r}) to {sizes[largest]:,} "
        f"({class_names[largest]!r}), median {np.median(sizes):,g}"
    )


def even_phases(num_classes: int) -> list[int]:
    """The numbers of phases N that deal the classes out evenly with half of them first; none for an odd number."""
    half, odd = divmod(num_classes, 2)
    return [] if odd else [count for count in range(1, half + 1) if half % count == 0]


def _phases_text(num_classes: int) -> str:
    fitting = even_phases(num_classes)
    if fitting:
        return f"N = {', '.join(map(str, fitting))} (Protocol.num_phases) with half of the classes first"
    if num_classes == 1:
        return "one class is a single phase: Protocol.num_phases = 0"
    sizes = (num_classes - num_classes // 2, num_classes // 2)
    return f"an odd number of classes has no half: set Protocol.sizes, such as {sizes}"


def verdict(found: Findings, strict: bool, num_phases: int, per_class: int) -> str:
    """One line that says whether a run can use the folder.

    Args:
      found: what is in it.
      strict: whether all pictures have to be usable.
      num_phases: `Protocol.num_phases` of the run.
      per_class: `ExemplarMemory.per_class` of the run.
    """
    if found.refusal:
        return "A run cannot use it."
    number = found.num_lost
    files = f"the {number:,} pictures that are left out" if number > 1 else "the picture that is left out"
    if number and strict:
        return f"A run could use it without {files}, which --strict does not allow."
    without = f" without {files}" if number else ""
    settings = _other_settings(found, num_phases, per_class)
    if settings:
        return f"A run needs other settings{' and goes' * bool(without)}{without}: {' and '.join(settings)}."
    return f"A run can use it{without}."


def _other_settings(found: Findings, num_phases: int, per_class: int) -> list[str]:
    """What has to be set so that a run does not refuse the folder; nothing if it takes it with the settings given."""
    from mnemonics_tf.checks import UsageError
    from mnemonics_tf.data.class_order import Protocol

    settings = []
    try:
        Protocol(num_phases=num_phases).phase_sizes(len(found.class_names))
    except UsageError:
        settings.append(f"phases as above (Protocol.num_phases = {num_phases} does not fit)")
    sizes = next(iter(found.splits.values()))  # of training images
    if sizes.min() < per_class:
        name, fewest = found.class_names[int(sizes.argmin())], int(sizes.min())
        settings.append(
            f"ExemplarMemory.per_class of at most {fewest} (not {per_class}: {name!r} has {fewest} training images)"
        )
    return settings


def _extended(extent: tuple[int, int] | None, value: int) -> tuple[int, int]:
    return (value, value) if extent is None else (min(extent[0], value), max(extent[1], value))


def _range(extent: tuple[int, int]) -> str:
    return f"{extent[0]:,}" if extent[0] == extent[1] else f"{extent[0]:,} to {extent[1]:,}"


def _amount(num_bytes: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} GB"


def _show(lines: list[str]) -> None:
    """Prints one line each, whatever is in the names of files."""
    encoding = sys.stdout.encoding or "utf-8"
    for line in lines:
        plain = "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in line)
        screen.say(plain.encode(encoding, "backslashreplace").decode(encoding))


if __name__ == "__main__":
    stopping.end_in_one_line("mnemonics_tf")
    app.run(main, flags_parser=functools.partial(screen.parse_flags, "mnemonics_tf"))
