"""Classification heads that grow: embeddings `[B, d]` to a score for each class.

A head's weights are two sets of variables, those of old and of new classes, because some methods hold the old ones
fixed while they train the new ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import keras
import tensorflow as tf

from mnemonics_tf import checks


class Head(keras.layers.Layer):
    """The base of all heads: weights by class, how they are carried on, and the correction of biased logits.

    A head maps embeddings `[B, d]` to `(scores, logits)`, each `[B, K + M]`: similarities with the classes in -1..1,
    made of cosines, and what the softmax is taken of.

    Args:
      num_old_classes: K, 0 in the initial phase.
      num_new_classes: M, at least 1.
      corrected: whether logits go through a gain and an offset for each class, `gain * logit + offset` (BiC). They
        start from 1 and 0, and no gradient trains them. False by default: only BiC sets them.

    Raises:
      UsageError: a number of classes is out of its range.
    """

    # Weights of the correction, beside those that make scores.
    correction_names = ("old_gain", "new_gain", "old_offset", "new_offset")

    # Whether embeddings want both signs, so that the backbone's last block has no ReLU.
    wants_signed_features = True

    def __init__(self, num_old_classes: int, num_new_classes: int, corrected: bool = False, **kwargs):
        super().__init__(**kwargs)
        checks.check_non_negative(num_old_classes=num_old_classes)
        checks.check_positive_integer(num_new_classes=num_new_classes)
        self.num_old_classes = num_old_classes
        self.num_new_classes = num_new_classes
        self.corrected = corrected
        self._by_class: list[str] = []
        self._trained_by_class: list[str] = []

    @property
    def num_classes(self) -> int:
        """K + M, the number of outputs."""
        return self.num_old_classes + self.num_new_classes

    def build(self, input_shape: tuple[int, ...]) -> None:
        self._add_weights(input_shape[-1])
        if self.corrected:
            self._add_by_class("gain", (), 1, keras.initializers.Ones, trainable=False)
            self._add_by_class("offset", (), 1, keras.initializers.Zeros, trainable=False)

    def _add_weights(self, width: int) -> None:
        """Adds the weights for embeddings of this width."""
        raise NotImplementedError

    def _add_by_class(
        self,
        name: str,
        rows: tuple[int, ...],
        columns_per_class: int,
        initializer: Callable[[], keras.initializers.Initializer],
        trainable: bool = True,
    ) -> None:
        """Adds `old_<name>` `[*rows, K * columns]` (None for K = 0) and `new_<name>` `[*rows, M * columns]`."""
        self._by_class.append(name)
        if trainable:
            self._trained_by_class.append(name)
        for age, count in (("old", self.num_old_classes), ("new", self.num_new_classes)):
            weight = None
            if count:
                shape = (*rows, count * columns_per_class)
                # One for each: an initializer that is used twice gives the same numbers twice.
                weight = self.add_weight(
                    name=f"{age}_{name}", shape=shape, initializer=initializer(), trainable=trainable
                )
            setattr(self, f"{age}_{name}", weight)

    def by_class(self, name: str) -> tf.Tensor:
        """The weights of all classes of one kind, those of old classes before those of new ones.

        Args:
          name: `kernel`, `[d, K + M]`, with several columns a class for proxies; `bias`, `gain` or `offset`, `[K + M]`,
            where the head has them.
        """
        parts = [getattr(self, f"{age}_{name}") for age in ("old", "new")]
        tensors = [tf.convert_to_tensor(part) for part in parts if part is not None]
        return tensors[0] if len(tensors) == 1 else tf.concat(tensors, axis=-1)

    @property
    def eta(self) -> tf.Tensor:
        """The scalar that scores are multiplied by to be logits; 1 where logits are no multiple of scores."""
        return tf.ones([], self.compute_dtype)

    def take_from(self, source: Head) -> None:
        """Copies the weights of the classes that another head knows into this one.

        Args:
          source: a head of the same kind that knows all classes of this one, or its old ones alone; then the weights of
            new classes stay as they are.

        Raises:
          ValueError: `source` knows another number of classes.
        """
        if source.num_classes not in (self.num_classes, self.num_old_classes):
            raise ValueError(
                f"A head of {self.num_old_classes} old and {self.num_new_classes} new classes cannot take the weights "
                f"of one with {source.num_classes}: expected all of them, or the old ones."
            )
        for name in self._by_class:
            values = source.by_class(name)
            old = getattr(self, f"old_{name}")
            split = 0 if old is None else old.shape[-1]
            if old is not None:
                old.assign(values[..., :split])
            if source.num_classes == self.num_classes:
                getattr(self, f"new_{name}").assign(values[..., split:])

    def train_old_classes(self, trained: bool) -> None:
        """Makes the weights of old classes trainable (True) or holds them fixed (False)."""
        for name in self._trained_by_class:
            weight = getattr(self, f"old_{name}")
            if weight is not None:
                weight.trainable = trained

    def _correct(self, logits: tf.Tensor) -> tf.Tensor:
        if not self.corrected:
            return logits
        return self.by_class("gain") * logits + self.by_class("offset")

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[tuple[int | None, ...], ...]:
        shape = (input_shape[0], self.num_classes)
        return shape, shape


class _ScaledHead(Head):
    """The base of heads whose logits are scores times a learned eta, which starts from 1."""

    _columns_per_class = 1

    def _add_weights(self, width: int) -> None:
        self._add_by_class("kernel", (width,), self._columns_per_class, lambda: _uniform(width))
        self._eta = self.add_weight(name="eta", shape=(), initializer="ones")

    @property
    def eta(self) -> tf.Tensor:
        return tf.convert_to_tensor(self._eta)

    def take_from(self, source: Head) -> None:
        super().take_from(source)
        self._eta.assign(source.eta)


class CosineHead(_ScaledHead):
    """Classifier by cosine similarity (LUCIR): logits = eta * cos(f, w_k), with a learned scalar eta.

    Class weights w_k start uniform in ±1/sqrt(d), eta from 1.
    """

    def call(self, features: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Features `[B, d]` to `(scores, logits)`."""
        scores = cosines(features, self.by_class("kernel"))
        return scores, self._correct(self.eta * scores)


class LinearHead(Head):
    """Classifier by inner product: logits = f w_k + b_k. Its scores are the cosines of f and w_k.

    Class weights w_k start uniform in ±1/sqrt(d), biases b_k from 0.
    """

    wants_signed_features = False

    def _add_weights(self, width: int) -> None:
        self._add_by_class("kernel", (width,), 1, lambda: _uniform(width))
        self._add_by_class("bias", (), 1, keras.initializers.Zeros)

    def call(self, features: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Features `[B, d]` to `(scores, logits)`."""
        kernel = self.by_class("kernel")
        return cosines(features, kernel), self._correct(tf.matmul(features, kernel) + self.by_class("bias"))


class ProxyHead(_ScaledHead):
    """Local similarity classifier (PODNet): ten proxies a class, as in its paper, of which the nearest count most.

    With the cosines c_kp between the embedding and the proxies of class k, the score of class k is
    sum_p softmax_p(c_kp) c_kp, in -1..1, and logits = eta * score with a learned scalar eta, which starts from 1.
    """

    num_proxies = 10
    _columns_per_class = num_proxies

    def call(self, features: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Features `[B, d]` to `(scores, logits)`."""
        by_proxy = cosines(features, self.by_class("kernel"))
        by_proxy = tf.reshape(by_proxy, [-1, self.num_classes, self.num_proxies])
        scores = tf.reduce_sum(tf.nn.softmax(by_proxy) * by_proxy, axis=-1)
        return scores, self._correct(self.eta * scores)


HEADS: dict[str, type[Head]] = {"cosine": CosineHead, "linear": LinearHead, "proxies": ProxyHead}


def cosines(features: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Cosines of embeddings with the columns of a kernel.

    Args:
      features: embeddings, `[B, d]`.
      kernel: a column for each class or proxy, `[d, k]`.

    Returns:
      `[B, k]`, in -1..1.
    """
    return tf.matmul(tf.math.l2_normalize(features, axis=1), tf.math.l2_normalize(kernel, axis=0))


def _uniform(width: int) -> keras.initializers.Initializer:
    limit = 1.0 / math.sqrt(width)
    return keras.initializers.RandomUniform(-limit, limit)
