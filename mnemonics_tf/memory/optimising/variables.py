"""What a meta-step changes: pixels and, where they are learned, soft labels and inner rates."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from mnemonics_tf.bilevel.problem import MetaGradient
from mnemonics_tf.data import pixels
from mnemonics_tf.data.decoding import in_memory
from mnemonics_tf.data.types import LabelledImages, PixelRange
from mnemonics_tf.memory.codecs import Codec
from mnemonics_tf.memory.optimising.pixel_steps import PixelSteps
from mnemonics_tf.memory.optimising.settings import ExemplarLevel

# The probability of its own class that a soft label starts with.
_INITIAL_CONFIDENCE = 0.9

# How much of the past the running mean of gradient norms remembers at each step.
_NORM_MEMORY = 0.9


class ExemplarVariables:
    """Variables of one chunk of exemplars.

    Args:
      exemplars: their initial values, as they are stored.
      num_classes: K + M, for soft labels.
      codec: how exemplars are stored.
      pixel_range: normalisation; pixels stay in the range of real ones.
      settings: what is learned, and how fast.
      fixed: exemplars that stay as they are, `[n]` bool; None for none.
    """

    def __init__(
        self,
        exemplars: LabelledImages,
        num_classes: int,
        codec: Codec,
        pixel_range: PixelRange,
        settings: ExemplarLevel,
        fixed: np.ndarray | None = None,
    ):
        self._hard_labels, self._codec = exemplars.labels, codec
        self._pixel_range, self._settings = pixel_range, settings
        self._bounds = pixels.valid_bounds(pixel_range)
        self._pixels = tf.Variable(pixels.normalise(exemplars.images, pixel_range), name="exemplars")
        self._start = exemplars.array
        self._logits = self._log_rates = self._offset = None
        self._fixed = fixed
        self._moving = None if fixed is None else tf.constant(~fixed[:, None, None, None], tf.float32)
        self._steps = PixelSteps(settings.optimiser, settings.momentum, tuple(self._pixels.shape))
        if settings.project_every is not None:
            self._offset = tf.Variable(tf.zeros_like(self._pixels), name="offset")
        if settings.learn_labels:
            self._logits = tf.Variable(_initial_logits(exemplars, num_classes), name="label_logits")
        if settings.learned_rates != "none":
            shape = [settings.inner_steps] if settings.learned_rates == "per_step" else []
            self._log_rates = tf.Variable(tf.fill(shape, np.log(settings.inner_learning_rate).astype(np.float32)))
        self._mean_norm: float | None = None

    @property
    def num_images(self) -> int:
        """Images that the temporary model can be trained on."""
        return len(self._hard_labels) * self._codec.images_per_slot

    @property
    def moving(self) -> np.ndarray:
        """Which images are learned, `[num_images]` bool; the others stay as they are."""
        slots = np.ones(len(self._hard_labels), bool) if self._fixed is None else ~self._fixed
        return np.repeat(slots, self._codec.images_per_slot)

    def images(self) -> tf.Tensor:
        """Normalised images `[num_images, H, W, C]`."""
        slots = tf.convert_to_tensor(self._pixels)
        # As they are kept, as far as `project` has looked; the gradient passes to the floats.
        return self._codec.decode(slots if self._offset is None else slots + self._offset)

    def project(self) -> None:
        """Codes the present exemplars and decodes them: what that changes is added to `images()` from here on."""
        if self._offset is None:
            return
        kept = self._codec.kept(pixels.denormalise(self._pixels.numpy(), self._pixel_range))
        seen = in_memory(LabelledImages(kept, self._hard_labels)).array
        self._offset.assign(pixels.normalise(seen, self._pixel_range) - self._pixels)

    def labels(self) -> tf.Tensor:
        """Class indices `[num_images]` or soft labels `[num_images, K + M]`."""
        labels = tf.constant(self._hard_labels) if self._logits is None else tf.nn.softmax(self._logits)
        return tf.repeat(labels, self._codec.images_per_slot, axis=0)

    def rates(self, num_steps: int) -> tf.Tensor | None:
        """The learned inner rates: one, or those of the first `num_steps` steps; None if they are not learned."""
        if self._log_rates is None:
            return None
        return tf.exp(self._log_rates if self._log_rates.shape.rank == 0 else self._log_rates[:num_steps])

    @property
    def inner_rate(self) -> float:
        """The mean of the inner rates."""
        rates = self.rates(self._settings.inner_steps)
        return self._settings.inner_learning_rate if rates is None else float(tf.reduce_mean(rates))

    def descend(
        self, presented: tf.Tensor, labels: tf.Tensor, tape: tf.GradientTape, meta: MetaGradient, learning_rate: float
    ) -> float:
        """One step of projected gradient descent: pixels stay those of an image that can be stored.

        Args:
          presented: the images that the engine was given, made from `images()` under `tape`.
          labels: `labels()` under `tape`.
          tape: persistent; recorded both.
          meta: what the engine said.
          learning_rate: of the pixels.

        Returns:
          The length of the gradient with respect to pixels, before it is clipped.
        """
        gradient = tape.gradient(presented, self._pixels, output_gradients=meta.exemplars)
        norm = float(tf.norm(gradient))
        step = self._steps.step(gradient, self._clipping(norm), learning_rate)
        if self._moving is not None:
            step *= self._moving
        self._pixels.assign(tf.clip_by_value(self._pixels - step, *self._bounds))
        if self._logits is not None:
            by_logit = tape.gradient(labels, self._logits, output_gradients=meta.labels)
            self._logits.assign_sub(self._settings.labels_learning_rate * by_logit)
        if self._log_rates is not None:
            self._descend_rates(self._log_rates, meta.rates)
        return norm

    def stored(self) -> LabelledImages:
        """Present values: images float32 on the scale 0..255."""
        soft = None if self._logits is None else tf.nn.softmax(self._logits).numpy()
        images = pixels.denormalise(self._pixels.numpy(), self._pixel_range)
        if self._fixed is not None:  # to the bit: normalising has rounded them
            images[self._fixed] = self._start[self._fixed]
        return LabelledImages(images, self._hard_labels, soft)

    def distances(self) -> dict[str, float]:
        """How far exemplars are from what they began as, in the mean over them (Figure S2 of the supplement).

        `distance/cosine` is 1 minus the cosine between pixels on the scale 0..1, in 0..1; `distance/euclidean` the
        length of their difference.
        """
        cosines, lengths = [], []
        for start, now in zip(self._start, self._pixels.numpy(), strict=True):  # one at a time: some are large
            first = start.reshape(-1).astype(np.float64) / 255
            second = pixels.denormalise(now, self._pixel_range).reshape(-1) / 255.0
            product = np.linalg.norm(first) * np.linalg.norm(second)
            cosines.append(first @ second / product if product > 0 else 1.0)
            lengths.append(np.linalg.norm(second - first))
        return {
            "distance/cosine": float(np.mean(1 - np.array(cosines))),
            "distance/euclidean": float(np.mean(lengths)),
        }

    def state(self) -> dict[str, np.ndarray]:
        """All that further steps depend on, as arrays.

        `pixels` are normalised, `mean_norm` is NaN before the first step that is clipped; `logits` (of soft labels) and
        `log_rates` (of the inner steps) are there where they are learned, `offset` where pixels are projected, and what
        momentum or Adam remembers where they are used.
        """
        mean_norm = np.nan if self._mean_norm is None else self._mean_norm
        variables = {name: variable.numpy() for name, variable in self._variables().items()}
        return {"mean_norm": np.array(mean_norm, np.float64), **variables, **self._steps.state()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Goes on from what `state()` gave.

        Raises:
          ValueError: it is of other exemplars or of other settings.
        """
        variables = self._variables()
        expected = {name: np.shape(value) for name, value in self.state().items()}
        found = {name: np.shape(value) for name, value in state.items()}
        if found != expected:
            raise ValueError(
                f"The state of other exemplars or settings: it holds arrays of shapes {found}, expected {expected}. "
                "Start this optimisation anew."
            )
        for name, variable in variables.items():
            variable.assign(state[name])
        self._steps.restore(state)
        mean_norm = float(state["mean_norm"])
        self._mean_norm = None if np.isnan(mean_norm) else mean_norm

    def _variables(self) -> dict[str, tf.Variable]:
        named = {"pixels": self._pixels, "offset": self._offset}
        named |= {"logits": self._logits, "log_rates": self._log_rates}
        return {name: variable for name, variable in named.items() if variable is not None}

    def _descend_rates(self, log_rates: tf.Variable, by_rate: tf.Tensor) -> None:
        # By the logarithm, so that rates stay positive: d/d log(rate) = rate * d/d rate.
        steps = by_rate.shape[0] if by_rate.shape.rank else 0
        change = self._settings.rates_learning_rate * by_rate * self.rates(steps)
        if steps:
            change = tf.pad(change, [[0, self._settings.inner_steps - steps]])
        # A rate changes at most e-fold at a time: near the edge of stability its gradient can be of any size.
        log_rates.assign_sub(tf.clip_by_value(change, -1.0, 1.0))

    def _clipping(self, norm: float) -> float:
        """The factor that shortens a gradient of length `norm` to the limit, and notes the length."""
        limit = self._settings.clip_norm
        if limit is None or not norm:
            return 1.0
        factor = 1.0 if self._mean_norm is None else min(1.0, limit * self._mean_norm / norm)
        clipped = factor * norm
        before = clipped if self._mean_norm is None else self._mean_norm
        self._mean_norm = _NORM_MEMORY * before + (1 - _NORM_MEMORY) * clipped
        return factor


def _initial_logits(exemplars: LabelledImages, num_classes: int) -> np.ndarray:
    """Logits of the soft labels there are, wider for new classes, or of ones that favour the hard label."""
    others = (1 - _INITIAL_CONFIDENCE) / max(1, num_classes - 1)
    probabilities = np.full((len(exemplars), num_classes), others)
    probabilities[np.arange(len(exemplars)), exemplars.labels] = _INITIAL_CONFIDENCE
    if exemplars.soft_labels is not None:
        known = exemplars.soft_labels
        # Hard ones that were joined to soft ones have a single class, and would hardly learn from there.
        is_soft = known.max(axis=1) < 1
        known = np.pad(known[is_soft], [(0, 0), (0, num_classes - known.shape[1])])
        # A class that was unknown when they were learned starts from little, not from nothing, which has no logarithm.
        probabilities[is_soft] = np.maximum(known, 1e-4)
    return np.log(probabilities).astype(np.float32)
