"""Arrays and `tf.data.Dataset`s as images and classes, by stated rules, or refused."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

import numpy as np
import tensorflow as tf

from mnemonics_tf import checks
from mnemonics_tf.data.decoding import centre_square, resizer
from mnemonics_tf.data.decoding import pixels as decoded
from mnemonics_tf.data.listing import check_name, one_form
from mnemonics_tf.data.reading import MOST_BYTES
from mnemonics_tf.system import files

_EXPECTED = "expected [n, H, W, C] or [n, H, W], uint8 on the scale 0..255 or floating on the scale 0..1"
_KEYS = ("image", "label")


def described(value: Any) -> str:
    """An object of any kind, in few words."""
    shape = getattr(value, "shape", None)
    if shape is not None and hasattr(value, "dtype"):
        return f"An array {getattr(value.dtype, 'name', value.dtype)} of shape {tuple(shape)}"
    return f"A {type(value).__name__}"


def as_pixels(values: Any) -> np.ndarray:
    """Images `[n, H, W, C]` uint8.

    Whole numbers must lie in 0..255. Floating ones must lie in 0..1 and are taken times 255. `[n, H, W]` gets a
    channel.

    Raises:
      UsageError: another shape, dtype or range.
    """
    try:
        images = np.asarray(values)
    except (ValueError, TypeError) as error:
        raise checks.UsageError(f"Images cannot be made an array ({error}): {_EXPECTED}.") from error
    if images.dtype == object or images.dtype.kind not in "uif":
        raise checks.UsageError(f"Images are {described(images).lower()}: {_EXPECTED}.")
    # A single image [H, W, C] would pass for H grey ones of W x C pixels, and so would one with transparency.
    images = images[..., None] if images.ndim == 3 and images.shape[-1] not in (1, 3, 4) else images
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or 0 in images.shape[1:]:
        raise checks.UsageError(
            f"Images have shape {np.shape(values)}: {_EXPECTED}, with one channel or three. A single image is "
            "image[None]; drop a fourth channel (transparency) by images[..., :3]; grey images 4 pixels wide are "
            "images[..., None]."
        )
    if images.dtype == np.uint8 or not len(images):
        return images.astype(np.uint8)
    low, high = float(images.min()), float(images.max())
    if images.dtype.kind == "f":
        if not (np.isfinite(low) and np.isfinite(high)) or low < 0 or high > 1:
            raise checks.UsageError(
                f"Images are {images.dtype.name} from {low:g} to {high:g}: expected uint8 on the scale 0..255, or "
                "floating on the scale 0..1. Undo a normalisation before they are given."
            )
        return np.rint(images * 255.0).astype(np.uint8)
    if low < 0 or high > 255:
        raise checks.UsageError(
            f"Images are {images.dtype.name} from {low:g} to {high:g}: expected 0..255. 16 bits a channel become 8 by "
            "images // 256."
        )
    return images.astype(np.uint8)


def brought_to(images: np.ndarray, side: int | None, num_channels: int, resized_side: int | None = None) -> np.ndarray:
    """Images as a network of one size takes them.

    Args:
      images: `[n, H, W, C]` uint8.
      side: of the square that they become, as images from files do; None leaves the size as it is.
      num_channels: 3 makes three equal channels of one; other numbers of channels stay as they are.
      resized_side: to which their shorter side is scaled (antialiased) before the centre square is taken; None for
        `side`.
    """
    if side is not None and images.shape[1:3] != (side, side):
        resize = resizer(side, resized_side, images.shape[3])
        images = np.stack([resize(image).numpy() for image in images])
    return np.repeat(images, 3, axis=3) if num_channels == 3 and images.shape[3] == 1 else images


def as_classes(
    labels: Any, class_names: Sequence[str] | None, num_images: int
) -> tuple[np.ndarray, tuple[str, ...], tuple[int, ...] | None]:
    """Labels as positions in a list of class names.

    Args:
      labels: names of classes, or whole numbers, `[n]`.
      class_names: what the numbers stand for; None for the numbers themselves.
      num_images: n.

    Returns:
      Positions `[n]` int64, the names of the classes that the labels show, and the numbers that the labels have for
      them; None where labels are names.

    Raises:
      UsageError: labels of another shape, kind or range.
    """
    # As objects where they come one by one: NumPy makes text of numbers among names.
    values = np.array(labels, object) if isinstance(labels, list | tuple) else np.asarray(labels)
    if values.shape == (num_images, 1):  # as Keras's data sets have them
        values = values[:, 0]
    if values.dtype == object or values.dtype.kind == "S":
        values = _plain_labels(values)
    if values.shape != (num_images,):
        hint = " One-hot labels become numbers by labels.argmax(axis=1)." if values.ndim == 2 else ""
        raise checks.UsageError(
            f"labels have shape {values.shape} for {num_images} images: expected one label an image, [{num_images}]."
            f"{hint}"
        )
    if values.dtype.kind == "U":
        values = np.array([one_form(each) for each in values.tolist()])
        names, positions = np.unique(values, return_inverse=True)
        for name in names.tolist():
            check_name(name)
        if class_names is not None:
            raise checks.UsageError("labels are names, and class_names say what numbers stand for: leave them out.")
        return positions.astype(np.int64), tuple(names.tolist()), None
    if values.dtype.kind not in "iu":
        raise checks.UsageError(f"labels are {values.dtype.name}: expected whole numbers or names.")
    if (values < 0).any():
        raise checks.UsageError(
            f"labels hold {int(values.min())}: expected numbers from 0 on. Data sets mark secret labels so: leave such "
            "images out."
        )
    if values.max(initial=0) >= 2**63:
        raise checks.UsageError(f"labels hold {int(values.max())}: expected numbers below 2^63.")
    if class_names is None:
        numbers, positions = np.unique(values, return_inverse=True)
        return positions.astype(np.int64), tuple(map(str, numbers.tolist())), tuple(numbers.tolist())
    return _named(values.astype(np.int64), class_names)


def _named(values: np.ndarray, class_names: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...], tuple[int, ...]]:
    # A dictionary's keys, or a set, would be names in an order that says nothing.
    is_list = isinstance(class_names, Iterable) and not isinstance(class_names, str | Mapping | Set)
    names = tuple(class_names) if is_list else ()
    if not is_list or not all(isinstance(name, str) for name in names):
        raise checks.UsageError(f"class_names = {class_names!r}: expected a list of names, such as ['heron', 'stork'].")
    names = tuple(one_form(name) for name in names)
    for name in names:
        check_name(name)
    if len(set(names)) < len(names):
        raise checks.UsageError(f"class_names = {list(names)!r}: expected each name once.")
    if values.max(initial=-1) >= len(names):
        raise checks.UsageError(
            f"labels hold {int(values.max())}, and there are {len(names)} class_names: expected 0 to {len(names) - 1}."
        )
    # Names that no image shows are those of classes that came before, or will come.
    shown, positions = np.unique(values, return_inverse=True)
    return positions.astype(np.int64), tuple(names[number] for number in shown), tuple(shown.tolist())


def _plain_labels(values: np.ndarray) -> np.ndarray:
    """Labels of any objects as names or whole numbers. Raises UsageError for what is neither, or a mixture."""
    plain = []
    for each in values.ravel().tolist():
        try:
            each = each.item() if isinstance(each, np.generic) else each  # as a list of array elements holds them
            plain.append(each.decode() if isinstance(each, bytes) else each)
        except UnicodeDecodeError:
            raise checks.UsageError(f"labels hold {each!r}: expected names in UTF-8, or whole numbers.") from None
    if not (all(isinstance(each, str) for each in plain) or all(isinstance(each, int) for each in plain)):
        odd = next((each for each in plain if not isinstance(each, str)), None)
        raise checks.UsageError(f"labels hold {odd!r}: expected names alone, or whole numbers alone.")
    return np.array(plain).reshape(values.shape)


def of_dataset(
    dataset: tf.data.Dataset, image_size: int | None, resized_side: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """All images and labels of a `tf.data.Dataset` of `(image, label)` or `{"image": ..., "label": ...}`.

    Args:
      dataset: of single pairs or of batches, that ends.
      image_size: to which images are brought that differ in size; None if they do not.
      resized_side: to which the shorter side of those is scaled first; None for `image_size`.

    Raises:
      UsageError: it yields something else, never ends, or its images differ in size and none is given.
    """
    spec = dataset.element_spec
    if isinstance(spec, dict) and set(_KEYS) <= set(spec):
        dataset = dataset.map(lambda element: tuple(element[key] for key in _KEYS))
        spec = dataset.element_spec
    is_pair = isinstance(spec, tuple) and len(spec) == 2 and all(isinstance(each, tf.TensorSpec) for each in spec)
    if not is_pair or spec[0].shape.rank not in (3, 4) or spec[1].shape.rank not in (0, 1):
        raise checks.UsageError(
            f"The tf.data.Dataset yields {_spec_text(spec)}: expected (image, label) or a dictionary with 'image' and "
            "'label', one at a time or in batches: images [H, W, C], labels []."
        )
    if spec[0].shape.rank == 4:
        dataset, spec = dataset.unbatch(), tuple(tf.TensorSpec(each.shape[1:], each.dtype) for each in spec)
    return _collected(dataset, spec, image_size, resized_side)


def _collected(
    dataset: tf.data.Dataset, spec: Any, image_size: int | None, resized_side: int | None
) -> tuple[np.ndarray, np.ndarray]:
    if int(dataset.cardinality()) == tf.data.INFINITE_CARDINALITY:
        raise checks.UsageError(
            "The tf.data.Dataset never ends: expected one pass over the images. Leave out repeat()."
        )
    side = image_size if None in spec[0].shape[:2] else None
    images: list[np.ndarray] = []
    labels: list[Any] = []
    for image, label in dataset.as_numpy_iterator():
        if side is not None:  # as pixels 0..255, whatever the scale that they came on
            image = centre_square(tf.constant(as_pixels(image[None])[0]), side, resized_side).numpy()
        if images and image.shape != images[0].shape:
            raise checks.UsageError(
                f"The tf.data.Dataset yields images {images[0].shape} and {image.shape}: expected one size. Resize "
                "them, or set IncrementalLearner's image_size."
            )
        images.append(image)
        labels.append(label)
    if not images:
        raise checks.UsageError("The tf.data.Dataset is empty: expected at least one image.")
    return np.stack(images), np.array(labels)


def unlabelled(dataset: tf.data.Dataset, image_size: int | None, resized_side: int | None = None) -> np.ndarray:
    """All images of a `tf.data.Dataset` of images, of batches of them, or of pairs whose labels are left out.

    Sizes are those of `of_dataset`.
    """
    spec = dataset.element_spec
    if isinstance(spec, tuple | dict):
        return of_dataset(dataset, image_size, resized_side)[0]
    if not isinstance(spec, tf.TensorSpec) or spec.shape.rank not in (3, 4):
        raise checks.UsageError(f"The tf.data.Dataset yields {_spec_text(spec)}: expected images [H, W, C].")
    pairs = dataset.map(lambda images: (images, tf.zeros(tf.shape(images)[:-3], tf.int64)))
    return of_dataset(pairs, image_size, resized_side)[0]


def _spec_text(spec: Any) -> str:
    """What a dataset yields, in few words."""
    if isinstance(spec, dict):
        return "{" + ", ".join(f"{key!r}: {_spec_text(value)}" for key, value in spec.items()) + "}"
    if isinstance(spec, tuple):
        return "(" + ", ".join(map(_spec_text, spec)) + ")"
    if isinstance(spec, tf.TensorSpec):
        return f"{spec.dtype.name}{spec.shape.as_list() if spec.shape.rank is not None else ' of any shape'}"
    return type(spec).__name__


def shorter_side(path: str) -> int | None:
    """Pixels of an image file's shorter side; None if it cannot be read."""
    try:
        shape = decoded(files.read_bytes(os.path.expanduser(path), MOST_BYTES)).shape
    except (ValueError, tf.errors.OpError):
        return None
    return int(min(shape[:2]))
