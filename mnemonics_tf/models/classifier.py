"""The network that a phase trains: a backbone and a head that grows."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from mnemonics_tf.models.layers import CosineHead, ScaleShiftLayer
from mnemonics_tf.models.resnet import ResNet


class Outputs(NamedTuple):
    """What the network says of a batch.

    Attributes:
      features: embeddings, `[B, d]`.
      scores: cosines with the class weights, `[B, K + M]`, in -1..1.
      logits: scores times eta, `[B, K + M]`.
    """

    features: tf.Tensor
    scores: tf.Tensor
    logits: tf.Tensor


class Classifier(keras.Model):
    """Backbone and cosine head: normalised images `[B, H, W, C]` to `Outputs`.

    Args:
      backbone: maps images to embeddings `[B, d]`.
      num_old_classes: K.
      num_new_classes: M.
    """

    def __init__(self, backbone: keras.Model, num_old_classes: int, num_new_classes: int, **kwargs):
        # Keras casts what a model is called with to the model's own dtype, which is not that of its layers by itself.
        super().__init__(dtype=backbone.output.dtype, **kwargs)
        self.backbone = backbone
        self.head = CosineHead(num_old_classes, num_new_classes, dtype=backbone.output.dtype, name="head")
        self.head.build(backbone.output_shape)
        self.built = True

    @property
    def num_classes(self) -> int:
        """K + M."""
        return self.head.num_old_classes + self.head.num_new_classes

    def call(self, images: tf.Tensor, training: bool = False) -> Outputs:
        features = self.backbone(images, training=training)
        scores, logits = self.head(features)
        return Outputs(features, scores, logits)

    @property
    def scale_shift_layers(self) -> list[ScaleShiftLayer]:
        """The layers that weight transfer scales and shifts."""
        return [layer for layer in self.backbone.layers if isinstance(layer, ScaleShiftLayer)]

    def train_all(self) -> None:
        """Trains every weight, old head weights included; scale and shift are out of the computation."""
        self.train_phase(transferring=False, old_head=True)

    def train_phase(self, transferring: bool, old_head: bool) -> None:
        """What the model level trains: all weights, or with weight transfer scale, shift, batch norm and head.

        Args:
          transferring: train scale and shift on frozen weights (Eq. 13).
          old_head: train the head's weights of old classes too.
        """
        for layer in self.scale_shift_layers:
            layer.set_transferring(transferring)
        self.head.train_old_kernel(old_head)

    def fold(self) -> None:
        """Folds scale and shift into the weights (Eq. 14). Outputs do not change."""
        for layer in self.scale_shift_layers:
            layer.fold()


@dataclasses.dataclass(frozen=True)
class ClassifierFactory:
    """Builds the classifier of any phase. Call it in the scope of the strategy that will train it.

    Attributes:
      network: the backbone's configuration.
      image_shape: `(H, W, C)`.
      scale_form: None, `per_neuron` or `per_kernel`.
    """

    network: ResNet
    image_shape: tuple[int, int, int]
    scale_form: str | None = None

    def build(self, num_old_classes: int, num_new_classes: int) -> Classifier:
        """A classifier with random weights."""
        backbone = self.network.build(self.image_shape, self.scale_form)
        return Classifier(backbone, num_old_classes, num_new_classes)

    def grow(self, previous: Classifier, num_new_classes: int) -> Classifier:
        """A copy of `previous` with `num_new_classes` more outputs, whose weights are random; eta is carried on.

        The old network is left as it was, to be the teacher.
        """
        grown = self.build(previous.num_classes, num_new_classes)
        grown.backbone.set_weights(previous.backbone.get_weights())
        grown.head.continue_from(previous.head)
        return grown


def directions(features: np.ndarray) -> np.ndarray:
    """Embeddings `[n, d]` scaled to length 1, which is how cosine heads, herding and nearest means see them."""
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def imprint(head: CosineHead, features: np.ndarray, labels: np.ndarray) -> None:
    """Sets the weights of new classes from their images' features (LUCIR's weight imprinting).

    A class's weight is the direction of its mean normalised feature, at the mean norm of the old classes' weights.

    Args:
      head: a head with old classes.
      features: embeddings of training images of all new classes, `[n, d]`.
      labels: their class indices, `[n]`.

    Raises:
      ValueError: the head has no old classes, or a new class has no feature.
    """
    if head.old_kernel is None:
        raise ValueError("Imprinting needs the weights of old classes for their norm; this head has none.")
    old = keras.ops.convert_to_numpy(head.old_kernel)
    columns = []
    for index in range(head.num_old_classes, head.num_old_classes + head.num_new_classes):
        members = features[labels == index]
        if not len(members):
            raise ValueError(f"Class index {index} has no features to imprint its weights from.")
        mean = np.mean(directions(members), axis=0)
        columns.append(mean / np.linalg.norm(mean))
    head.new_kernel.assign(np.stack(columns, axis=1) * np.mean(np.linalg.norm(old, axis=0)))
