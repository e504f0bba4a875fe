"""The network that a phase trains: a backbone and a head that grows."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from mnemonics_tf.models.backbone import Backbone
from mnemonics_tf.models.fitted_head import FittedHead, pooled, pooled_width
from mnemonics_tf.models.heads import HEADS, Head
from mnemonics_tf.models.layers import TransferLayer
from mnemonics_tf.models.resnet import ResNet


class Outputs(NamedTuple):
    """What the network says of a batch of images.

    Attributes:
      features: embeddings, `[B, d]`, not normalised.
      scores: similarity with each class, `[B, K + M]`, in -1..1: the cosine with the class's weights, or the weighted
        mean of the cosines with its proxies (`ProxyHead`).
      logits: what the softmax is taken of, `[B, K + M]`; corrected, where the head corrects them.
      eta: a scalar: logits are eta * scores before any correction. 1 with a linear head, whose logits are no multiple
        of its scores.
      maps: output of each of the classifier's `map_layers`, `[B, h, w, c]` each; empty if it has none.
      offsets: what a training adds to the logits that images are classified by, `[B, K + M]`, see `Rehearsal`; None,
        the default, for nothing. A network by itself never says any.
    """

    features: tf.Tensor
    scores: tf.Tensor
    logits: tf.Tensor
    eta: tf.Tensor | float = 1.0
    maps: tuple[tf.Tensor, ...] = ()
    offsets: tf.Tensor | None = None

    @property
    def adjusted_logits(self) -> tf.Tensor:
        """The logits that cross-entropy with labels is of, `[B, K + M]`; all else, predictions too, is of `logits`."""
        return self.logits if self.offsets is None else self.logits + self.offsets


class Classifier(keras.Model):
    """Backbone and head: normalised images `[B, H, W, C]` to `Outputs`.

    Args:
      backbone: a built model that maps images to embeddings `[B, d]`.
      num_old_classes: K, 0 in the initial phase.
      num_new_classes: M, at least 1.
      head: `cosine`, `linear` or `proxies`. `cosine` by default, LUCIR's: the norms of class weights, which grow with
        the number of images, do not count in it.
      corrected: whether logits go through a gain and an offset for each class (BiC), see `Head`. False by default: no
        other method needs them.
      map_layers: names of layers of the backbone whose outputs become `Outputs.maps`. Empty by default: PODNet and
        fitted heads alone look at them.
      num_units: random units of a `FittedHead`, which then takes the place of `head` and reads the `map_layers`. None
        by default, for a head that is trained.
    """

    def __init__(
        self,
        backbone: keras.Model,
        num_old_classes: int,
        num_new_classes: int,
        head: str = "cosine",
        corrected: bool = False,
        map_layers: Sequence[str] = (),
        num_units: int | None = None,
        **kwargs,
    ):
        # Keras casts what a model is called with to the model's own dtype, which is not that of its layers by itself.
        # With mixed precision only the backbone computes in half; head and losses work as its weights are stored.
        super().__init__(dtype=backbone.input.dtype, **kwargs)
        self.backbone = backbone
        # By identity: Keras would take a list of layers for layers of this model.
        self._frozen = frozenset(id(layer) for layer in self.backbone_layers if not layer.trainable)
        # The same layers with more outputs.
        self._with_maps = None
        outputs = [backbone.get_layer(name).output for name in map_layers]
        if outputs:
            self._with_maps = keras.Model(backbone.input, [*outputs, backbone.output], name="with_maps")
        self._is_fitted = num_units is not None
        width, common = backbone.output_shape[-1], {"dtype": backbone.input.dtype, "name": "head"}
        self.head: Head
        if num_units is None:
            self.head = HEADS[head](num_old_classes, num_new_classes, corrected, **common)
        else:
            self.head = FittedHead(num_old_classes, num_new_classes, num_units, **common)
            width = pooled_width(width, [each.shape[1:] for each in outputs])
        self.head.build((0, width))  # for batches of any size
        self.built = True

    @property
    def num_classes(self) -> int:
        """K + M, the number of outputs."""
        return self.head.num_classes

    def call(self, images: tf.Tensor, training: bool = False) -> Outputs:
        features, maps = self._embed(images, training)
        scores, logits = self.head(pooled(features, maps) if self._is_fitted else features)
        return Outputs(features, scores, logits, self.head.eta, maps)

    def units(self, images: tf.Tensor) -> tf.Tensor:
        """The units that a fitted head reads of normalised images `[B, H, W, C]`: `[B, U]`."""
        return self.head.units(pooled(*self._embed(images, training=False)))

    def _embed(self, images: tf.Tensor, training: bool) -> tuple[tf.Tensor, tuple[tf.Tensor, ...]]:
        """Embeddings and maps."""
        if self._with_maps is None:
            maps, features = [], self.backbone(images, training=training)
        else:
            *maps, features = self._with_maps(images, training=training)
        features, *maps = (tf.cast(each, self.backbone.input.dtype) for each in (features, *maps))
        return features, tuple(maps)

    @property
    def backbone_layers(self) -> list[keras.layers.Layer]:
        """The backbone's layers, those inside of layers too."""
        # Keras has no public way to list the layers inside layers.
        return self.backbone._flatten_layers(include_self=False, recursive=True)

    @property
    def backbone_models(self) -> list[keras.Model]:
        """The models whose outputs the classifier reads, or that are layers of them."""
        inner = [layer for layer in self.backbone_layers if isinstance(layer, keras.Model)]
        return [self.backbone, *inner, *([] if self._with_maps is None else [self._with_maps])]

    @property
    def scale_shift_layers(self) -> list[TransferLayer]:
        """The backbone's layers that weight transfer scales and shifts, whether it does so now or not."""
        return [layer for layer in self.backbone_layers if isinstance(layer, TransferLayer)]

    def train_all(self) -> None:
        """Makes every weight trainable, the head's of old classes included, and takes scale and shift out of use."""
        self.train_phase(transferring=False, old_head=True)

    def train_phase(self, transferring: bool, old_head: bool) -> None:
        """Chooses what the model level trains: all weights, or scale, shift, batch norm and head.

        Layers of the backbone that were frozen when it was made stay frozen.

        Args:
          transferring: True trains scale and shift on frozen weights (Eq. 13), False the weights themselves.
          old_head: whether the head's weights of old classes are trained too.

        Raises:
          UsageError: `transferring` for a backbone that was built without scale and shift.
        """
        self.backbone.trainable = True  # `train_head` has switched it off
        for layer in self.backbone_layers:
            if id(layer) in self._frozen:
                layer.trainable = False
        for layer in self.scale_shift_layers:
            layer.set_transferring(transferring)
        self.head.train_old_classes(old_head)

    def train_head(self) -> None:
        """Makes the head's weights alone trainable, those of old classes included."""
        self.train_all()
        self.backbone.trainable = False

    def initial_weights(self) -> dict[str, keras.Variable]:
        """The variables that training sets in phase 0, by names that any classifier of the same network and head has.

        Scale, shift and bias of weight transfer, and the correction of logits, are not among them: until a later phase
        trains them, they change nothing.
        """
        unused = {id(weight) for layer in self.scale_shift_layers for weight in layer.transfer_weights}
        return {
            name: weight
            for name, weight in self.named_weights().items()
            if id(weight) not in unused and weight.name not in self.head.correction_names
        }

    def named_weights(self) -> dict[str, keras.Variable]:
        """All variables, by names that any classifier of the same network, head and scale form has."""
        named: dict[str, keras.Variable] = {}
        for layer in [*self.backbone.layers, self.head]:
            for weight in layer.weights:
                name = f"{layer.name}/{weight.name}"
                # Layers inside a layer may have weights of one name.
                named[f"{len(named)}/{name}" if name in named else name] = weight
        return named

    def fold(self) -> None:
        """Folds scale and shift into the weights of all layers that have them (Eq. 14). Outputs do not change."""
        for layer in self.scale_shift_layers:
            layer.fold()


@dataclasses.dataclass(frozen=True)
class ClassifierFactory:
    """Builds the classifier of any phase. Call it in the scope of the strategy that will train it.

    Attributes:
      network: which residual network the backbone is, or which Keras model.
      image_shape: shape of its input images, `(H, W, C)`.
      scale_form: scale and shift of weight transfer: `per_neuron`, `per_kernel`, or None for a network without. None by
        default.
      head: `cosine`, `linear` or `proxies`. `cosine` by default, as of `Classifier`.
      corrected: whether logits go through a gain and an offset for each class, see `Head`. False by default.
      tells_maps: whether `Outputs.maps` has the output of each stage of the backbone. False by default: one method
        wants them.
      precision: the numbers that the backbone computes with: `float32`, `bfloat16` or `float16`. Its weights and the
        head are float32 all the same. `float32` by default, which every device computes.
      num_units: random units of the `FittedHead` that takes the place of `head` once phase 0 is trained, see
        `trained`. None by default, for a head that is trained in all phases.
    """

    network: ResNet | Backbone
    image_shape: tuple[int, int, int]
    scale_form: str | None = dataclasses.field(default=None, metadata={"later_phases_only": True})
    head: str = "cosine"
    corrected: bool = dataclasses.field(default=False, metadata={"later_phases_only": True})
    tells_maps: bool = dataclasses.field(default=False, metadata={"later_phases_only": True})
    precision: str = "float32"
    num_units: int | None = dataclasses.field(default=None, metadata={"later_phases_only": True})

    @property
    def trained(self) -> ClassifierFactory:
        """What builds networks to be trained: the same backbone with `head`. This very factory but for fitted heads."""
        return self if self.num_units is None else dataclasses.replace(self, num_units=None)

    def build(self, num_old_classes: int, num_new_classes: int) -> Classifier:
        """A classifier with random weights.

        Args:
          num_old_classes: K, 0 in the initial phase.
          num_new_classes: M, at least 1.

        Raises:
          UsageError: the images are too small for the network's stages.
        """
        signed = HEADS[self.head].wants_signed_features
        dtype = None if self.precision == "float32" else f"mixed_{self.precision}"
        backbone = self.network.build(self.image_shape, self.scale_form, dtype, signed)
        map_layers = self.network.stage_outputs if self.tells_maps or self.num_units is not None else ()
        # Keras would count the models of the process in their names, and files of weights hold those.
        return Classifier(
            backbone,
            num_old_classes,
            num_new_classes,
            self.head,
            self.corrected,
            map_layers,
            self.num_units,
            name="classifier",
        )

    def start(self, num_new_classes: int) -> Classifier:
        """The classifier that the training of phase 0 starts from: a Keras model begins with the weights it came with.

        Args:
          num_new_classes: M, at least 1.
        """
        model = self.build(0, num_new_classes)
        if isinstance(self.network, Backbone):
            self.network.fill(model.backbone)
        return model

    def grow(self, previous: Classifier, num_new_classes: int) -> Classifier:
        """A copy of `previous` with `num_new_classes` more outputs, whose weights are random; eta is carried on.

        All classes of `previous` are old ones of the copy. `previous` is left as it was, to be the teacher.

        Args:
          previous: Θ_{i-1}, built for the same network, images and head.
          num_new_classes: M, at least 1.
        """
        grown = self.build(previous.num_classes, num_new_classes)
        grown.backbone.set_weights(previous.backbone.get_weights())
        grown.head.take_from(previous.head)
        return grown

    def same(self, model: Classifier) -> Classifier:
        """A copy of `model` with the same weights, old and new classes, in this factory's precision."""
        same = self.build(model.head.num_old_classes, model.head.num_new_classes)
        same.set_weights(model.get_weights())
        return same

    def copy(self, model: Classifier) -> Classifier:
        """A copy of `model` with the same weights, whose classes all count as new ones."""
        copy = self.build(0, model.num_classes)
        copy.backbone.set_weights(model.backbone.get_weights())
        copy.head.take_from(model.head)
        return copy


def directions(features: np.ndarray) -> np.ndarray:
    """Embeddings `[n, d]` scaled to length 1, which is how cosine heads, herding and nearest means see them."""
    # A ReLU can leave an embedding without any length.
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
