"""Reads the images of a TFDS set into memory, and leaves out those that cannot be decoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from mnemonics_tf import checks, runtime
from mnemonics_tf.data import catalogue, complaints, decoding, headers, prepared, reading, tfds_records
from mnemonics_tf.data.class_order import index_of_id
from mnemonics_tf.data.layout import NUM_SHOWN
from mnemonics_tf.data.types import LabelledImages
from mnemonics_tf.system import tracking

_AT_ONCE = 500  # images
_NOT_KEPT, _NO_CLASS, _TOO_LARGE = -1, -2, -3  # in the place of a class's new id


class Loader:
    """Decodes the images of some classes of a data set.

    Args:
      builder: the data set, prepared.
      features: its image and its class.
      kept: ids of the classes, `[k]`; a label is a class's place among them.
      image_size: side of the squares that images become, in pixels; None leaves them as they are, all of one shape.
      resized_side: to which the shorter side is brought before the square is cut out; None for `image_size`.
    """

    def __init__(
        self,
        builder: tfds.core.DatasetBuilder,
        features: catalogue.Classification,
        kept: np.ndarray,
        image_size: int | None,
        resized_side: int | None,
    ):
        self._builder, self._features, self._kept = builder, features, kept
        self._size, self._side = image_size, resized_side
        height, width = features.image.shape[:2] if image_size is None else (image_size, image_size)
        self._shape = (height, width, features.num_channels)
        self._decode_all = tf.function(self._graph, input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)

    def load(self, split: str, skipped: dict[str, str]) -> LabelledImages:
        """The images of a split, `[n, H, W, C]` uint8. What cannot be decoded is added to `skipped`, with the reason.

        Raises:
          UsageError: the files cannot be read, a label is beyond the classes, or there is no image at all.
        """
        builder, name = self._builder, self._builder.name
        # Exact where classes have equally many images.
        count = round(builder.info.splits[split].num_examples * len(self._kept) / self._features.num_classes)
        images: list[np.ndarray] = []
        labels: list[np.ndarray] = []
        reasons: dict[str, str] = {}
        num_read = num_without_class = 0
        with tracking.progress(f"reading {name} {split}", count, "images") as bar:
            try:
                for contents, ids in self._encoded(split).as_numpy_iterator():
                    if (ids == _TOO_LARGE).any():
                        limit = self._features.num_classes
                        catalogue.check_labels(builder, split, [limit], limit)
                    num_without_class += int((ids == _NO_CLASS).sum())
                    contents, ids = contents[ids >= 0], ids[ids >= 0]
                    decoded, broken = self._decode(list(contents))
                    reasons |= {f"{name} {split}, image {num_read + row}": reason for row, reason in broken.items()}
                    images.append(decoded)
                    labels.append(np.delete(ids, list(broken)))
                    num_read += len(ids)
                    bar.update(len(ids))
            except tf.errors.OpError as error:
                raise prepared.unreadable(builder, split, prepared.first_line(error)) from error
        self._report(split, num_without_class, num_read, reasons)
        skipped.update(reasons)
        if not sum(map(len, images)):
            raise checks.UsageError(f"Data set {name!r}: no {split} image of the {len(self._kept)} classes asked for.")
        return LabelledImages(_joined(images), np.concatenate(labels))

    def _encoded(self, split: str) -> tf.data.Dataset:
        """Batches of encoded images of the kept classes, and of none, with the new id of each."""
        features = self._features
        new_ids = index_of_id(self._kept, features.num_classes)
        table = tf.constant(np.concatenate([[_NO_CLASS], new_ids, [_TOO_LARGE]]))

        @tf.autograph.experimental.do_not_convert
        def relabelled(contents: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            new = tf.gather(table, tf.clip_by_value(labels, -1, features.num_classes) + 1)
            is_wanted = new != _NOT_KEPT
            return tf.boolean_mask(contents, is_wanted), tf.boolean_mask(new, is_wanted)

        batches = tfds_records.batches(self._builder, features, split, _AT_ONCE).map(relabelled)
        return runtime.untuned(batches.rebatch(_AT_ONCE).prefetch(1))

    def _decode(self, contents: Sequence[bytes]) -> tuple[np.ndarray, dict[int, str]]:
        """Images `[at most n, H, W, C]` uint8, and for the others by their place the reason."""
        if all(map(headers.is_plain, contents)):
            try:
                with complaints.heard() as lines, tf.device("/CPU:0"):
                    decoded = self._decode_all(tf.constant(contents, tf.string)).numpy()
            except tf.errors.OpError:
                lines = None  # one of them is broken
            if lines is not None and not complaints.damage(lines):
                complaints.pass_on(lines)
                return decoded, {}
        results = reading.decode_contents(contents, self._decode_one)
        broken = {row: result for row, result in enumerate(results) if isinstance(result, str)}
        whole = [result for result in results if not isinstance(result, str)]
        return np.stack(whole) if whole else np.empty((0, *self._shape), np.uint8), broken

    def _graph(self, contents: tf.Tensor) -> tf.Tensor:
        """Images `[n, H, W, C]` uint8 that need no turning, several at a time."""

        def decode(content: tf.Tensor) -> tf.Tensor:
            # Of 16 bits, TensorFlow gives the upper 8.
            image = tf.io.decode_image(content, channels=self._shape[2], expand_animations=False)
            if self._size is not None:
                image = decoding.centre_square(image, self._size, self._side)
            return tf.ensure_shape(image, self._shape)

        return tf.map_fn(decode, contents, fn_output_signature=tf.TensorSpec(self._shape, tf.uint8))

    def _decode_one(self, content: bytes) -> np.ndarray:
        image = decoding.pixels(content, self._shape[2])
        if self._size is not None:
            image = decoding.resizer(self._size, self._side, self._shape[2])(image)
        if tuple(image.shape) != self._shape:
            raise headers.UnreadableImageError(f"its shape is {tuple(image.shape)}, and that of the set {self._shape}")
        return image.numpy()

    def _report(self, split: str, num_without_class: int, num_read: int, reasons: Mapping[str, str]) -> None:
        name = self._builder.name
        if num_without_class:
            tracking.notice(f"Data set {name!r}: {num_without_class:,} {split} images have no class and are left out.")
        if reasons:
            lines = [f"\n  {place}: {reason}" for place, reason in list(reasons.items())[:NUM_SHOWN]]
            more = f"\n  and {len(reasons) - NUM_SHOWN} more" if len(reasons) > NUM_SHOWN else ""
            tracking.notice(
                f"{len(reasons)} of {num_read} {split} images cannot be decoded and are left out:{''.join(lines)}{more}"
            )


def _joined(batches: list[np.ndarray]) -> np.ndarray:
    """The batches one after the other. Empties the list as it goes, so that memory never holds all of them twice."""
    joined = np.empty((sum(map(len, batches)), *batches[0].shape[1:]), batches[0].dtype)
    end = len(joined)
    while batches:
        batch = batches.pop()
        joined[end - len(batch) : end] = batch
        end -= len(batch)
    return joined
