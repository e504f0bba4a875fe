"""Inference over many images: embeddings and probabilities as NumPy arrays."""

from __future__ import annotations

import collections
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import tensorflow as tf

from mnemonics_tf import runtime
from mnemonics_tf.data import pipeline, pixels
from mnemonics_tf.data.types import LabelledImages, PixelRange
from mnemonics_tf.models.classifier import Classifier
from mnemonics_tf.models.folding import folded
from mnemonics_tf.system.snapshots import Snapshots
from mnemonics_tf.system.tracking import Tracker

_BATCH_SIZE = 250
_AT_ONCE = 2  # batches on a CPU: what one cannot do on all cores at once, the other fills
_SMALL = 64 * 64  # pixels of images whose activations there is memory for twice


class Predictor:
    """Runs a classifier in inference mode without augmentation. It is traced once and follows the weights.

    Args:
      model: the network. Which of its weights are trained must not change while this is in use, as that is part of the
        trace.
      pixel_range: how pixels 0..255 are normalised to be the network's input.
      tracker: shows progress.
      strategy: the one whose replicas share the images. None, the default, for the strategy in whose scope this is
        made.
      snapshots: where what was found goes on the way, and from where a pass goes on; None, the default, for nowhere.

    Attributes:
      snapshots: the same; of several workers each has a part of what is found, so that nothing is kept.
    """

    def __init__(
        self,
        model: Classifier,
        pixel_range: PixelRange,
        tracker: Tracker,
        strategy: tf.distribute.Strategy | None = None,
        snapshots: Snapshots | None = None,
    ):
        self.model = model
        self.pixel_range = pixel_range
        self._tracker = tracker
        self._strategy = strategy or tf.distribute.get_strategy()
        self.snapshots = snapshots if snapshots is not None and snapshots.alone else Snapshots()
        self._functions: dict[str, tf.types.experimental.PolymorphicFunction] = {}

    def __call__(self, data: LabelledImages, stage: str) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings and logits of images, in their order.

        Args:
          data: images, n of them; labels are not looked at.
          stage: what the progress bar is called.

        Returns:
          Embeddings `[n, d]` and logits `[n, K + M]`, float32.
        """
        count = len(data)
        features = np.zeros((count, self.model.backbone.output.shape[-1]), np.float32)
        logits = np.zeros((count, self.model.num_classes), np.float32)
        self._look_through(data, stage, False, {"features": features, "logits": logits})
        features, logits = runtime.sum_over_workers(self._strategy, [features, logits])
        return features, logits

    def features(self, data: LabelledImages, stage: str, mirrored: bool = False) -> np.ndarray:
        """Embeddings of images, in their order.

        Args:
          data: images, n of them; labels are not looked at.
          stage: what the progress bar is called.
          mirrored: whether the images are mirrored, left to right, before the network sees them. False by default.

        Returns:
          `[n, d]`, float32.
        """
        features = np.zeros((len(data), self.model.backbone.output.shape[-1]), np.float32)
        self._look_through(data, stage, mirrored, {"features": features})
        return runtime.sum_over_workers(self._strategy, [features])[0]

    def units(
        self, data: LabelledImages, stage: str, mirrored: bool = False, first: int = 0
    ) -> Iterator[tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]]:
        """The units that the model's fitted head reads, batch by batch, as there may be too many for memory.

        Several workers have a part of the images each: what is made of them is to be added up (`sum_over_workers`).

        Args:
          data: images; labels are not looked at.
          stage: what the progress bar is called.
          mirrored: whether the images are mirrored, left to right, before the network sees them. False by default.
          first: how many images to leave out, of batches that were looked at before. 0 by default.

        Yields:
          Positions of b images, `[b]`, and of each its units, `[b, U]` float32, and its pixels, `[b, H, W, C]`.
        """
        return self._batches(data, stage, mirrored, self._units_and_pixels, first)

    def _look_through(self, data: LabelledImages, stage: str, mirrored: bool, found: dict[str, np.ndarray]) -> None:
        """Fills arrays of `[n, ...]` with what the network says of images, by names `features` and `logits`."""
        count = 0

        def take(arrays: Mapping[str, np.ndarray]) -> None:
            nonlocal count
            shapes = {name: arrays[name].shape[1:] == array.shape[1:] for name, array in found.items()}
            if not all(shapes.values()):
                raise ValueError("it was made by another network")
            for name, array in found.items():
                array[: len(arrays[name])] = arrays[name]
                count = len(arrays[name])

        def state() -> dict[str, np.ndarray]:
            return {name: array[:count] for name, array in found.items()}

        name = f"{stage}_{'logits' if 'logits' in found else 'features'}{'_mirrored' if mirrored else ''}"
        with self.snapshots.stage(name, take, images=len(data)) as work:
            for rows, outputs in self._batches(data, stage, mirrored, self._outputs, count):
                for array, output in zip(found.values(), outputs, strict=False):
                    array[rows] = output
                end = int(rows[-1]) + 1 if len(rows) else count
                if end % _BATCH_SIZE == 0:  # all replicas have said what they think of the batch
                    count = end
                    work.after_step(state)
            count = len(data)
            work.finish(state)

    def sum_over_workers(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """Adds each array up over the workers that share images with this one. All of them must call it."""
        return runtime.sum_over_workers(self._strategy, arrays)

    def _outputs(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with folded(self.model).applied():
            outputs = self.model(pixels.normalise(images, self.pixel_range), training=False)
        return outputs.features, outputs.logits

    def _units_and_pixels(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with folded(self.model).applied():
            return self.model.units(pixels.normalise(images, self.pixel_range)), images

    def _batches(
        self,
        data: LabelledImages,
        stage: str,
        mirrored: bool,
        tell: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
        first: int,
    ) -> Iterator[tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]]:
        """Positions of images and what `tell` says of their pixels, for the replicas of this process.

        The `first` images, a number of whole batches or all of them, are left out.
        """
        if first >= len(data):
            return
        share, first_step = runtime.share_of(self._strategy), first // _BATCH_SIZE
        batches = runtime.distribute(
            self._strategy, lambda own: pipeline.evaluation_batches(data, _BATCH_SIZE, own, mirrored, first_step)
        )
        predict = self._function(batches.element_spec, tell)
        with self._tracker.progress(stage, len(data), "images") as bar:
            bar.update(first)
            answers = _in_order(predict, batches, self._at_once(data, share))
            for step, answer in enumerate(answers, first_step):
                start = step * _BATCH_SIZE
                size = min(_BATCH_SIZE, len(data) - start)
                each = -(-size // share.num_replicas)
                results = runtime.local_values(self._strategy, answer)
                for replica, (one, other) in enumerate(results, share.first):
                    rows = np.arange(start + replica * each, start + min((replica + 1) * each, size))
                    yield rows, (one.numpy()[: len(rows)], other.numpy()[: len(rows)])
                bar.update(size)

    def _at_once(self, data: LabelledImages, share: runtime.Share) -> int:
        """How many batches to work at: a GPU takes one after the other anyway, and replicas have a part each."""
        is_alone_on_cpu = share.num_replicas == 1 and not tf.config.list_logical_devices("GPU")
        return _AT_ONCE if is_alone_on_cpu and math.prod(data.images.shape[1:3]) <= _SMALL else 1

    def _function(
        self, spec: tf.TypeSpec, tell: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
    ) -> tf.types.experimental.PolymorphicFunction:
        """Runs a batch on all replicas: traced once for images of uint8, and once for exemplars kept as floats."""
        name = f"{tell.__name__} {spec}"
        if name not in self._functions:
            self._functions[name] = tf.function(
                lambda images: self._strategy.run(tell, args=(images,)), input_signature=[spec], autograph=False
            )
        return self._functions[name]


def _in_order(
    predict: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]], batches: Iterable[tf.Tensor], at_once: int
) -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
    """What a function says of each batch, in their order, while it works at the next ones."""
    batches = iter(batches)
    for here in itertools.islice(batches, 1 if at_once > 1 else None):
        yield predict(here)  # the first of several is traced in this thread
    with ThreadPoolExecutor(at_once) as pool:
        waiting: collections.deque[Future[tuple[tf.Tensor, tf.Tensor]]] = collections.deque()
        for batch in batches:
            waiting.append(pool.submit(predict, batch))
            if len(waiting) > at_once:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
