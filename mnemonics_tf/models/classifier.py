"""The network that a phase trains: a backbone and a head that grows."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from mnemonics_tf.models.heads import HEADS
from mnemonics_tf.models.layers import ScaleShiftLayer
from mnemonics_tf.models.resnet import ResNet


class Outputs(NamedTuple):
    """What the network says of a batch.

    Attributes:
      features: embeddings, `[B, d]`.
      scores: cosines with the class weights, `[B, K + M]`, in -1..1.
      logits: what the softmax is taken of, `[B, K + M]`.
      eta: what scores are multiplied by to be logits; 1 with a linear head.
      maps: what each stage of the backbone puts out, `[B, h, w, c]` each, where the classifier was built to tell them.
    """

    features: tf.Tensor
    scores: tf.Tensor
    logits: tf.Tensor
    eta: tf.Tensor | float = 1.0
    maps: tuple[tf.Tensor, ...] = ()


class Classifier(keras.Model):
    """Backbone and head: normalised images `[B, H, W, C]` to `Outputs`.

    Args:
      backbone: maps images to embeddings `[B, d]`.
      num_old_classes: K.
      num_new_classes: M.
      head: `cosine`, `linear` or `proxies`.
      corrected: whether the head corrects biased logits.
      map_layers: layers of the backbone whose outputs are told as `Outputs.maps`.
    """

    def __init__(
        self,
        backbone: keras.Model,
        num_old_classes: int,
        num_new_classes: int,
        head: str = "cosine",
        corrected: bool = False,
        map_layers: Sequence[str] = (),
        **kwargs,
    ):
        # Keras casts what a model is called with to the model's own dtype, which is not that of its layers by itself.
        # With mixed precision only the backbone computes in half; head and losses work as its weights are stored.
        super().__init__(dtype=backbone.input.dtype, **kwargs)
        self.backbone = backbone
        # The same layers with more outputs.
        self._with_maps = None
        if map_layers:
            outputs = [backbone.get_layer(name).output for name in map_layers]
            self._with_maps = keras.Model(backbone.input, [*outputs, backbone.output])
        make_head = HEADS[head]
        self.head = make_head(num_old_classes, num_new_classes, corrected, dtype=backbone.input.dtype, name="head")
        self.head.build(backbone.output_shape)
        self.built = True

    @property
    def num_classes(self) -> int:
        """K + M."""
        return self.head.num_classes

    def call(self, images: tf.Tensor, training: bool = False) -> Outputs:
        if self._with_maps is None:
            maps, features = [], self.backbone(images, training=training)
        else:
            *maps, features = self._with_maps(images, training=training)
        features, *maps = (tf.cast(each, self.backbone.input.dtype) for each in (features, *maps))
        scores, logits = self.head(features)
        return Outputs(features, scores, logits, self.head.eta, tuple(maps))

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
        self.backbone.trainable = True  # `train_head` has switched it off
        for layer in self.scale_shift_layers:
            layer.set_transferring(transferring)
        self.head.train_old_classes(old_head)

    def train_head(self) -> None:
        """Trains the head's weights alone, those of old classes included."""
        self.train_all()
        self.backbone.trainable = False

    def initial_weights(self) -> dict[str, keras.Variable]:
        """The variables that a phase 0 trains, by names that any classifier of the same network and head has.

        Scale, shift and bias of weight transfer, and the correction of logits, are not among them: until a later phase
        trains them, they change nothing.
        """
        unused = {id(weight) for layer in self.scale_shift_layers for weight in layer.transfer_weights}
        named = {}
        for layer in [*self.backbone.layers, self.head]:
            for weight in layer.weights:
                if id(weight) not in unused and weight.name not in self.head.correction_names:
                    named[f"{layer.name}/{weight.name}"] = weight
        return named

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
      head: `cosine`, `linear` or `proxies`.
      corrected: whether the head corrects biased logits.
      tells_maps: whether `Outputs.maps` are wanted.
      precision: what the backbone computes in: `float32`, `bfloat16` or `float16`. Weights are float32 all the same.
    """

    network: ResNet
    image_shape: tuple[int, int, int]
    scale_form: str | None = dataclasses.field(default=None, metadata={"later_phases_only": True})
    head: str = "cosine"
    corrected: bool = dataclasses.field(default=False, metadata={"later_phases_only": True})
    tells_maps: bool = dataclasses.field(default=False, metadata={"later_phases_only": True})
    precision: str = "float32"

    def build(self, num_old_classes: int, num_new_classes: int) -> Classifier:
        """A classifier with random weights."""
        signed = HEADS[self.head].wants_signed_features
        dtype = None if self.precision == "float32" else f"mixed_{self.precision}"
        backbone = self.network.build(self.image_shape, self.scale_form, dtype, signed)
        map_layers = self.network.stage_outputs if self.tells_maps else ()
        return Classifier(backbone, num_old_classes, num_new_classes, self.head, self.corrected, map_layers)

    def grow(self, previous: Classifier, num_new_classes: int) -> Classifier:
        """A copy of `previous` with `num_new_classes` more outputs, whose weights are random; eta is carried on.

        The old network is left as it was, to be the teacher.
        """
        grown = self.build(previous.num_classes, num_new_classes)
        grown.backbone.set_weights(previous.backbone.get_weights())
        grown.head.take_from(previous.head)
        return grown

    def same(self, model: Classifier) -> Classifier:
        """A copy with the same old and new classes, in this factory's precision."""
        same = self.build(model.head.num_old_classes, model.head.num_new_classes)
        same.set_weights(model.get_weights())
        return same

    def copy(self, model: Classifier) -> Classifier:
        """A copy whose classes all count as new ones."""
        copy = self.build(0, model.num_classes)
        copy.backbone.set_weights(model.backbone.get_weights())
        copy.head.take_from(model.head)
        return copy


def directions(features: np.ndarray) -> np.ndarray:
    """Embeddings `[n, d]` scaled to length 1, which is how cosine heads, herding and nearest means see them."""
    # A ReLU can leave an embedding without any length.
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
