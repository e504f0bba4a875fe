"""Any Keras model as the network: `Backbone`."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mnemonics_tf import checks
from mnemonics_tf.data.types import PixelRange
from mnemonics_tf.system import complete
from mnemonics_tf.system.lazy import keras

if TYPE_CHECKING:
    from mnemonics_tf.models.architecture import Architecture, Weights

# What `keras.applications` expect, as (pixel / 255 - mean) / std in the order RGB; `caffe` then wants BGR.
_EXPECTED: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "none": ((0.0,), (1 / 255,)),
    "unit": ((0.0,), (1.0,)),
    "tf": ((0.5,), (0.5,)),
    "torch": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "caffe": ((123.68 / 255, 116.779 / 255, 103.939 / 255), (1 / 255,)),
}
PREPROCESSING = ("auto", "data", *_EXPECTED)

# Families of `keras.applications` by their models' names. Others begin with a layer that rescales.
_FAMILIES = (
    (r"(mobilenet|xception|inception|nasnet|resnet\d+v2$)", "tf"),
    (r"(resnet\d+$|vgg\d+$)", "caffe"),
    (r"densenet\d+$", "torch"),
)
# Layers and operations by which models rescale images themselves, before their first kernel.
_RESCALING = ("Rescaling", "Normalization", "TrueDivide", "Divide", "Multiply", "Subtract", "Add")

# How images are normalised for a model that expects a range of its own: photographs have about these statistics, so
# that the exemplar level's rates mean what they mean for other networks. The model's first layer undoes it.
_MEAN, _STD = 0.5, 0.25


class UnknownLayersError(checks.UsageError):
    """A saved backbone has layers that this process does not know."""


class Backbone:
    """A Keras model, pretrained or not, as the network of a learner: images `[B, H, W, C]` to embeddings `[B, d]`.

        network = keras.applications.MobileNetV2(include_top=False, weights="imagenet", pooling="avg")
        learner = IncrementalLearner(backbone=Backbone(network, image_size=96))

    `IncrementalLearner(backbone=network)` is `Backbone(network)`. The model is copied, and stays as it is; phase 0
    starts from its weights. Layers that are frozen (`trainable = False`) stay frozen. Batch norm follows the batches
    with a momentum of 0.9 at the most, and losses that layers add (regularizers) are left out.

    Args:
      model: a functional or sequential model, built, with one input of images and one output `[B, d]`. Models and
        layers of one's own inside of it must be able to be made again from their configuration.
      preprocess: what the model expects of its images. `none`: pixels 0..255; `unit`: 0..1; `tf`: -1..1; `torch` and
        `caffe`: ImageNet's statistics, as `keras.applications` has them under these names; `data`: the mean and
        deviation of the first images, as other networks have them. `auto`, the default: `none` if the model rescales
        images before its first layer with weights, what `keras.applications` says if the model has one of its names,
        and `data` otherwise. Anything else is a matter of layers in the model, and of `none`.
      image_size: side of the square that images of all sizes are brought to, in pixels: the shorter side is scaled
        (antialiased), then the centre square is taken; grey images get three channels if the model has three. None, the
        default, for the size that the model was built for; if that is any, arrays stay as they are, and other images
        are brought to a size that suits the first ones.
      weights: a file of the model's weights, as `model.save_weights` writes it. None, the default, for those it has.
      stages: names of layers whose outputs count as those of stages, `[B, h, w, c]` each, for methods that look at
        them. None by default: PODNet needs some; `analytic` then reads the embedding alone.

    Raises:
      UsageError: it is no such model, or weights, size or stages do not fit it.
    """

    def __init__(
        self,
        model: keras.Model,
        preprocess: str = "auto",
        image_size: int | None = None,
        weights: str | os.PathLike | None = None,
        stages: Sequence[str] = (),
    ):
        from mnemonics_tf.models import architecture, weight_files  # they need Keras, and settings do not

        model = _functional(model)
        self.name = model.name
        checks.check_choice("Backbone.preprocess", preprocess, PREPROCESSING)
        self._shape = _checked_shape(model)
        self._image_size: int | None = None
        if image_size is not None:
            checks.check_positive_integer(**{"Backbone.image_size": image_size})
            self.check_size(image_size, "Backbone.image_size")
            self._image_size = image_size
        _check_stages(model, stages)
        self._architecture: Architecture = architecture.taken_from(model)
        if weights is not None:
            model = weight_files.loaded(architecture.copy_of(model), os.fspath(weights))
            architecture.with_constants(self._architecture, model)
        weights_of_layers = architecture.weights_of(model)
        self._untransferable = architecture.untransferable(self._architecture, model)
        names = architecture.rename(self._architecture, weights_of_layers)
        self._weights: Weights | None = weights_of_layers
        self._file = None if weights is None else complete.checksum(os.path.expanduser(weights))
        self.stage_outputs = tuple(names[stage] for stage in stages)
        self.preprocess = _detected(self._architecture) if preprocess == "auto" else preprocess
        if len(_EXPECTED.get(self.preprocess, ((0.0,),))[0]) > 1 and self._shape[2] != 3:
            raise checks.UsageError(
                f"Backbone.preprocess = {self.preprocess!r}: it is for three channels, and the model {self.name!r} "
                f"takes {self._shape[2]}. Choose another."
            )

    @classmethod
    def from_card(cls, card: dict[str, Any]) -> Backbone:
        """A backbone from what `card` has returned. It has no weights of its own: those of a saved network follow.

        Raises:
          UnknownLayersError: layers that are not Keras's own are not known here.
          KeyError, TypeError: it is something else.
        """
        from mnemonics_tf.models import architecture

        backbone = cls.__new__(cls)
        backbone.name, backbone.preprocess = card["name"], card["preprocess"]
        backbone._shape, backbone._image_size = tuple(card["shape"]), card["image_size"]
        backbone.stage_outputs, backbone._untransferable = tuple(card["stages"]), card["untransferable"]
        backbone._architecture, backbone._weights = json.loads(card["architecture"]), None
        backbone._file = card.get("file")
        try:
            architecture.rebuilt(backbone._architecture)
        except Exception as error:  # of any kind: Keras's, or that of a layer
            raise UnknownLayersError(
                f"The backbone {backbone.name!r} cannot be made again ({architecture.one_line(error)}): import the "
                "module that has its layers, registered by @keras.saving.register_keras_serializable(), before load."
            ) from error
        return backbone

    def card(self) -> dict[str, Any]:
        """All but the weights, as JSON has it; of the file that they came from there is the checksum."""
        return {
            "name": self.name,
            "preprocess": self.preprocess,
            "shape": list(self._shape),
            "image_size": self._image_size,
            "stages": list(self.stage_outputs),
            "untransferable": self._untransferable,
            "architecture": json.dumps(self._architecture),
            **({} if self._file is None else {"file": self._file}),
        }

    def description(self) -> list[str]:
        """Checksums of all that a network depends on which starts from this backbone."""
        digest = hashlib.sha256()
        for array in _arrays(self._weights or {}):
            digest.update(np.ascontiguousarray(array).tobytes())
        layers = json.dumps([self._architecture["config"]["layers"], self.preprocess, self.stage_outputs])
        return [hashlib.sha256(layers.encode()).hexdigest(), digest.hexdigest()]

    def __repr__(self) -> str:
        return f"Backbone({self.name!r}, preprocess={self.preprocess!r}, image_size={self.image_size})"

    @property
    def image_size(self) -> int | None:
        """Side of the square that images are brought to, in pixels; None where they stay as they are."""
        height, width, _ = self._shape
        return self._image_size or (height if height == width else None)

    @property
    def num_channels(self) -> int:
        """C, of the images that the model takes."""
        return self._shape[2]

    @property
    def pixel_range(self) -> PixelRange | None:
        """How images are normalised; None for the statistics of the first ones."""
        if self.preprocess == "data":
            return None
        return PixelRange((_MEAN,) * self.num_channels, (_STD,) * self.num_channels)

    def check_size(self, side: int, name: str) -> None:
        """Raises UsageError if the model does not take images of `side` x `side`; `name` says who wants them."""
        height, width, channels = self._shape
        if height not in (None, side) or width not in (None, side) or self._image_size not in (None, side):
            wanted = self._image_size or f"{height} x {width}"
            raise checks.UsageError(
                f"{name} = {side}: the backbone {self.name!r} takes images of {wanted} pixels. Leave it out, or build "
                f"the model with input_shape=({side}, {side}, {channels})."
            )

    def check_image_shape(self, image_shape: tuple[int, int, int]) -> None:
        """Raises UsageError if the model does not take images `(H, W, C)`."""
        expected = (self._image_size or self._shape[0], self._image_size or self._shape[1], self._shape[2])
        if any(side not in (None, given) for side, given in zip(expected, image_shape, strict=True)):
            sides = " x ".join("any" if side is None else str(side) for side in expected[:2])
            raise checks.UsageError(
                f"Images are {image_shape[0]} x {image_shape[1]} with {image_shape[2]} channel(s): the backbone "
                f"{self.name!r} takes {sides} with {expected[2]}."
            )

    def check_transfer(self) -> None:
        """Raises UsageError if weight transfer cannot take the model."""
        if self._untransferable is not None:
            raise checks.UsageError(
                f"ModelLevel.weight_transfer: the backbone {self.name!r} has the layer {self._untransferable}, and "
                "weight transfer knows Conv2D, DepthwiseConv2D, SeparableConv2D, Dense and normalisation of Keras's. "
                "Set ModelLevel.weight_transfer = 'none', or freeze the layer (trainable = False)."
            )

    def multiply_adds(self, image_shape: tuple[int, int, int]) -> int | None:
        """As `ResNet.multiply_adds`, of the layers that have kernels; None where a model inside takes any size."""
        from mnemonics_tf.models import architecture

        return architecture.multiply_adds(self.build(image_shape))

    def build(
        self,
        image_shape: tuple[int, int, int],
        scale_form: str | None = None,
        dtype: str | None = None,
        signed_features: bool = True,
    ) -> keras.Model:
        """A new network with random weights, as `ResNet.build`; `signed_features` is up to the model.

        Raises:
          UsageError: the model cannot take such images, or weight transfer cannot take the model.
        """
        from mnemonics_tf.models import architecture

        self.check_image_shape(image_shape)
        if scale_form is not None:
            self.check_transfer()
        changed = architecture.as_backbone(
            self._architecture, image_shape, dtype or "float32", scale_form, self._entrance()
        )
        try:
            return architecture.rebuilt(changed)
        except Exception as error:  # of any kind: a layer's, for images that it cannot take
            height, width, channels = image_shape
            raise checks.UsageError(
                f"The backbone {self.name!r} cannot be built for images of {height} x {width} with {channels} "
                f"channel(s): {architecture.one_line(error)}. Larger images may help (image_size)."
            ) from error

    def fill(self, network: keras.Model) -> None:
        """Sets the weights of a network that `build` made to those the model came with; a loaded one has none."""
        from mnemonics_tf.models import architecture

        if self._weights is not None:
            architecture.fill(network, self._weights)

    def _entrance(self) -> dict[str, Any] | None:
        """The configuration of the layer that makes of normalised images what the model expects."""
        if self.preprocess == "data":
            return None
        mean, std = (np.broadcast_to(each, self.num_channels) for each in _EXPECTED[self.preprocess])
        gain, offset = _STD / std, (_MEAN - mean) / std
        config = {"gain": gain.tolist(), "offset": offset.tolist(), "reverses": self.preprocess == "caffe"}
        return {"class_name": "Denormalised", "config": config}


def _functional(model: Any) -> keras.Model:
    """The model as a functional one. Raises UsageError if it is none, or not built."""
    if not isinstance(model, keras.Model):
        raise checks.UsageError(f"backbone = {model!r:.100}: expected a Keras model, a ResNet, or the name of one.")
    with contextlib.suppress(AttributeError, ValueError):
        if model.inputs and model.outputs:
            # One input and one output are themselves, and not lists of one.
            inputs, outputs = (each[0] if len(each) == 1 else each for each in (model.inputs, model.outputs))
            return keras.Model(inputs, outputs, name=model.name)
    if isinstance(model, keras.Sequential):
        raise checks.UsageError(
            f"The backbone {model.name!r} is not built: call model.build((None, H, W, C)) with the size of its images "
            "first, or begin it with keras.Input((H, W, C))."
        )
    raise checks.UsageError(
        f"The backbone {model.name!r} is a {type(model).__name__}, whose layers cannot be seen from outside: expected "
        "a functional or sequential model. Make one of its layers: keras.Model(inputs, outputs)."
    )


def _checked_shape(model: keras.Model) -> tuple[int | None, int | None, int]:
    """`(H, W, C)` of the images that a model takes; None for a side that may be any.

    Raises:
      UsageError: it takes or returns something else than images and embeddings.
    """
    for kind, tensors in (("inputs", model.inputs), ("outputs", model.outputs)):
        if len(tensors) != 1:
            raise checks.UsageError(
                f"The backbone {model.name!r} has {len(tensors)} {kind}: expected one. Make a model with one: "
                "keras.Model(model.inputs[0], model.outputs[0])."
            )
    taken, made = model.inputs[0].shape, model.outputs[0].shape
    if len(taken) != 4 or taken[3] not in (1, 3):
        raise checks.UsageError(
            f"The backbone {model.name!r} takes {list(taken)}: expected images [None, H, W, C] with one channel or "
            "three, the last."
        )
    if len(made) != 2 or made[1] is None:
        hint = "Build it with pooling='avg', or end it with keras.layers.GlobalAveragePooling2D()."
        raise checks.UsageError(
            f"The backbone {model.name!r} returns {list(made)}: expected embeddings [None, d], pooled. {hint}"
        )
    last = model.outputs[0]._keras_history.operation
    if isinstance(last, keras.layers.Softmax) or getattr(last, "activation", None) is keras.activations.softmax:
        raise checks.UsageError(
            f"The backbone {model.name!r} ends in a softmax: it returns probabilities of classes, and embeddings are "
            "expected. Build it with include_top=False and pooling='avg', or end it with the layer before: "
            "keras.Model(model.inputs, model.layers[-2].output)."
        )
    return taken[1], taken[2], taken[3]


def _check_stages(model: keras.Model, stages: Sequence[str]) -> None:
    names = [layer.name for layer in model.layers]
    for stage in stages:
        checks.check_choice("Backbone.stages", stage, names)
        if len(model.get_layer(stage).output.shape) != 4:
            raise checks.UsageError(f"Backbone.stages: the layer {stage!r} returns no maps [B, h, w, c]. Name another.")


def _detected(architecture: Architecture) -> str:
    """What a model expects of its images, by its first layers and its name."""
    from mnemonics_tf.models.architecture import KERNELS, layers_in

    names = (layer["class_name"] for layer in layers_in(architecture))
    if any(name in _RESCALING for name in itertools.takewhile(lambda name: name not in KERNELS, names)):
        return "none"
    inner = next((each for each in architecture["config"]["layers"] if "layers" in each["config"]), architecture)
    for name in (architecture["config"]["name"], inner["config"]["name"]):
        for pattern, expected in _FAMILIES:
            if re.match(pattern, name.lower()):
                return expected
    return "data"


def _arrays(weights: Weights) -> list[np.ndarray]:
    """All arrays, in the order of their layers."""
    return [array for values in weights.values() for array in (_arrays(values) if isinstance(values, dict) else values)]
