"""Exemplars as pictures: what each began as, what it was learned to be, what it is in the end, and the differences."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from mnemonics_tf.report.page.blocks import Gallery, MissingError, Strip, Text
from mnemonics_tf.report.page.record import Record

# Pixels of all pictures of a page, which take about a byte each as they are coded: pages stay small.
_MOST_PIXELS = 2_400_000
_MOST_PER_CLASS = 8
_MOST_CLASSES = 60  # of a phase
_LARGEST = 64  # side to which larger images are reduced
_MOST_GAIN = 40  # by which differences are made visible at most
_STRONG = 100  # grey levels that a strong difference is brought to
_QUALITY = 85
_KEPT = "kept"
_SHOWN_SIDE = 48  # of an image on the screen, in pixels of the page

Images = np.ndarray


def galleries(record: Record) -> list[Text | Gallery]:
    """A gallery for each phase that brought classes.

    Raises:
      MissingError: the run keeps no exemplars, or they are of several runs.
    """
    last, last_labels = record.exemplars(record.last)
    if not len(last):
        raise MissingError("The run keeps no exemplars.")
    blocks: list[Text | Gallery] = []
    per_class = _per_class(record, last)
    without_start = []
    gain = _gain(record)
    for phase in range(record.last + 1):
        images, labels = record.exemplars(phase)
        try:
            start = record.exemplars(phase, starting=True)
        except MissingError:
            start = None
            without_start.append(phase)
        sizes = {each.shape[1:] for each in (images, last, *(() if start is None else start[:1]))}
        if len(sizes) > 1:
            raise MissingError(f"Exemplars in phase {phase} have other sizes than the last ones, as if of another run.")
        classes = list(record.classes_of(phase))
        strips = []
        for index in classes[:_MOST_CLASSES]:
            moments = [] if start is None else [("before", start[0][start[1] == index])]
            moments.append((_KEPT, images[labels == index]))
            if phase < record.last:
                moments.append(("in the end", last[last_labels == index]))
            strips.append(Strip(record.class_names[index], _pictures(moments, per_class, gain)))
        left_out = len(classes) - len(strips)
        note = f"{left_out} more classes of this phase are not shown." if left_out else ""
        width = per_class * _SHOWN_SIDE
        blocks.append(Gallery(phase, tuple(strips), width, note))
    return [*_remarks(record, without_start, gain), *blocks]


def _remarks(record: Record, without_start: list[int], gain: float) -> list[Text]:
    text = (
        "Each row is a class and each picture an exemplar, in the same place from moment to moment. Differences are "
        f"shown around grey, {gain:.0f} times as strong as they are."
    )
    if not without_start:
        return [Text(text)]
    learns = record.results.exemplars == "mnemonics"
    why = (
        "The run has not kept what its exemplars began as (it was made by an earlier version)"
        if learns
        else "Exemplars of this run are chosen and not learned, so that they began as what they are"
    )
    return [Text(text), Text(f"{why}: only what was kept is shown, with later changes.", missing=learns)]


def _pictures(moments: list[tuple[str, Images]], per_class: int, gain: float) -> tuple[tuple[str, str], ...]:
    """The moments of a class and what changed between the first and each later one."""
    found = []
    _, first = moments[0]
    num_kept = next(len(images) for name, images in moments if name == _KEPT)
    for name, images in moments:
        if not len(images):
            continue
        found.append((name, _address(images[:per_class])))
        count = min(per_class, len(first), len(images))
        # Where some were discarded, places no longer tell which exemplar is which. Of large images only a few are kept
        # as they began.
        if images is not first and len(images) == num_kept and len(first) <= num_kept:
            change = images[:count].astype(np.float32) - first[:count]
            if np.any(change):
                found.append((f"{name}, difference", _address(_visible(change, gain))))
            else:
                found.append((f"{name}: no difference", ""))
    return tuple(found)


def _gain(record: Record) -> float:
    """The factor that brings the strong differences of the last phase that has any to where they are seen."""
    for phase in range(record.last, -1, -1):
        try:
            (before, of), (images, labels) = record.exemplars(phase, starting=True), record.exemplars(phase)
        except MissingError:
            continue
        after = images[np.isin(labels, of)]
        if after.shape == before.shape:
            strong = float(np.percentile(np.abs(after.astype(np.float32) - before), 99))
            return float(np.clip(_STRONG / max(strong, 1e-6), 1, _MOST_GAIN))
    return 3.0


def _visible(change: np.ndarray, gain: float) -> np.ndarray:
    return np.clip(np.rint(128 + gain * change), 0, 255).astype(np.uint8)


def _per_class(record: Record, images: Images) -> int:
    """How many exemplars of each class a page has room for: at least one."""
    shown = sum(min(size, _MOST_CLASSES) for size in record.results.phase_sizes[: record.last + 1])
    side_pixels = min(images.shape[1], _LARGEST) * min(images.shape[2], _LARGEST)
    return int(np.clip(_MOST_PIXELS // (5 * shown * side_pixels), 1, _MOST_PER_CLASS))


def _address(images: Images) -> str:
    """Images side by side, with a pixel between them, as the address of a picture within the page. Of images of other
    than one or three channels, the first ones are shown."""
    framed = np.pad(images, [(0, 0), (0, 0), (0, 1), (0, 0)], constant_values=128)
    row = np.concatenate(list(framed), axis=1)[:, :-1]
    picture = Image.fromarray(row[..., 0] if row.shape[2] < 3 else row[..., :3])
    if picture.height > _LARGEST:
        factor = _LARGEST / picture.height
        picture = picture.resize((max(1, round(picture.width * factor)), _LARGEST), Image.Resampling.LANCZOS)
    if picture.height < 16:  # few pixels: every one of them counts, and they take little room
        return _coded(picture, lossless=True)
    return _coded(picture, quality=_QUALITY)


def _coded(picture: Image.Image, **options) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format="WEBP", **options)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
