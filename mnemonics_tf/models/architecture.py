"""Configurations of Keras models as plain data: taken from a model, changed for a backbone, and built again.

A configuration is what `keras.saving.serialize_keras_object` makes of a functional model, as JSON has it. Nothing in it
is code, so that it can be kept in a file and read with Keras's safe mode.
"""

from __future__ import annotations

import copy
import itertools
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import keras
import numpy as np

from mnemonics_tf import checks
from mnemonics_tf.models.keras_layers import CUSTOM_OBJECTS, KERNELS

Architecture: TypeAlias = "dict[str, Any]"
# Arrays of each layer, by the layer's name; of a model inside the model, the same again.
Weights: TypeAlias = "dict[str, Any]"

# Weight transfer trains them as they are, beside scale and shift.
_NORMALISING = ("BatchNormalization", "LayerNormalization", "GroupNormalization", "UnitNormalization")
_MODELS = ("Functional", "Sequential")
# Keras's own 0.99 or more follows batches over thousands of steps, and a phase may have fewer.
_LARGEST_MOMENTUM = 0.9
_ENTRANCE = "denormalised"


def layers_in(architecture: Architecture) -> Iterator[Architecture]:
    """The configuration of each layer, those of models inside the model too, from the input on."""
    for layer in architecture["config"]["layers"]:
        if layer["class_name"] in _MODELS:
            yield from layers_in(layer)
        else:
            yield layer


def taken_from(model: keras.Model) -> Architecture:
    """The configuration of a functional model, once it has proved that a model can be made of it again.

    Layers of the class `Normalization` get the mean and variance that they have learned for constants.

    Raises:
      UsageError: it cannot.
    """
    try:
        architecture = _serialised(model)
        with_constants(architecture, model)
        rebuilt(architecture)
    except Exception as error:  # of any kind: it is code of the user's own
        raise checks.UsageError(
            f"The backbone {model.name!r} cannot be made again from its configuration ({one_line(error)}): a learner "
            "copies it in every phase, and saves it without code. Use Keras's layers, or layers of your own with "
            "get_config and @keras.saving.register_keras_serializable(); no Lambda."
        ) from error
    return architecture


def copy_of(model: keras.Model) -> keras.Model:
    """A model with the same layers and names, and other weights. Raises whatever Keras or the model's layers raise."""
    return rebuilt(_serialised(model))


def _serialised(model: keras.Model) -> Architecture:
    return json.loads(json.dumps(keras.saving.serialize_keras_object(model)))


def with_constants(architecture: Architecture, model: keras.Model) -> None:
    """Writes what `Normalization` layers have learned into their configuration: their weights would not follow."""
    for layer, own in _with_layers(architecture, model):
        if layer["class_name"] in _MODELS:
            with_constants(layer, own)
        elif layer["class_name"] == "Normalization" and own.weights:
            mean, variance, _ = own.get_weights()
            layer["config"] |= {"mean": np.ravel(mean).tolist(), "variance": np.ravel(variance).tolist()}


def rebuilt(architecture: Architecture) -> keras.Model:
    """A new model. Raises whatever Keras or the model's layers raise."""
    # Keras changes what it is given.
    return keras.saving.deserialize_keras_object(copy.deepcopy(architecture), custom_objects=CUSTOM_OBJECTS)


def rename(architecture: Architecture, weights: Weights) -> dict[str, str]:
    """Gives layers that nobody has named the names of a new process, here and in the weights; from old names to new.

    Keras counts all layers of a process, and what a network depends on must not depend on others.
    """
    names = _canonical_names(architecture)
    config = architecture["config"]
    for layer in config["layers"]:
        own = layer["config"]
        if layer["class_name"] in _MODELS:
            rename(layer, weights.get(own["name"], {}))
        own["name"] = names[own["name"]]
        if "name" in layer:
            layer["name"] = own["name"]
        _redirect(layer.get("inbound_nodes", []), names)
    for ends in ("input_layers", "output_layers"):
        if ends in config:
            config[ends] = _renamed(config[ends], names)
    renamed = {names[name]: values for name, values in weights.items()}
    weights.clear()
    weights.update(renamed)
    return names


def _renamed(ends: Any, names: Mapping[str, str]) -> Any:
    """The layers that a model begins or ends with: names with two numbers, in lists or not."""
    return [_renamed(each, names) for each in ends] if isinstance(ends, list) else names.get(ends, ends)


def weights_of(model: keras.Model) -> Weights:
    """The weights of a model, layer by layer; those of `Normalization` are in its configuration."""
    return {
        layer.name: weights_of(layer) if _is_model(layer) else layer.get_weights()
        for layer in model.layers
        if layer.weights and not isinstance(layer, keras.layers.Normalization)
    }


def fill(model: keras.Model, weights: Weights) -> None:
    """Sets the weights of a model that was built from the same configuration, perhaps changed by `as_backbone`."""
    for name, values in weights.items():
        layer = model.get_layer(name)
        if _is_model(layer):
            fill(layer, values)
            continue
        layer = getattr(layer, "layer", layer) if type(layer).__name__ == "ScaledLayer" else layer
        # A bias that was added for the shift of weight transfer comes last, and stays zero.
        for variable, value in zip(layer.weights, values, strict=False):
            variable.assign(value)


def as_backbone(
    architecture: Architecture,
    image_shape: tuple[int, int, int],
    dtype: str,
    scale_form: str | None,
    entrance: Architecture | None,
) -> Architecture:
    """The configuration with what a backbone needs.

    Its images get one shape; layers compute in `dtype`; convolutions and dense layers that are not frozen get scale and
    shift; batch norm over the last axis becomes `FusedBatchNormalization`.

    Args:
      architecture: of the model as it came; stays as it is.
      image_shape: `(H, W, C)`.
      dtype: Keras's dtype policy of all layers.
      scale_form: of weight transfer; None for none.
      entrance: the configuration of a layer that is to be the first; None for none.
    """
    changed = copy.deepcopy(architecture)
    (first, *_) = changed["config"]["layers"]
    first["config"] |= {"batch_shape": [None, *image_shape], "dtype": "float32"}
    changed["config"]["trainable"] = True
    if entrance is not None:
        _enter(changed, first, entrance)
    _change_layers(changed, lambda layer: _changed(layer, dtype, scale_form))
    return changed


def multiply_adds(model: keras.Model) -> int | None:
    """Products of a weight and a value that one image takes on its way forward; None where a size is not known.

    A layer that is used several times counts once: this is for a guess at the time.
    """
    total = 0
    for layer in model.layers:
        if _is_model(layer):
            of_layer = multiply_adds(layer)
        else:
            # What has fewer axes, such as the scales of batch norm, is nothing beside kernels.
            weights = sum(math.prod(weight.shape) for weight in layer.weights if len(weight.shape) > 1)
            places = layer.output.shape[1:-1] if weights else ()
            of_layer = None if None in places else math.prod(places) * weights
        if of_layer is None:
            return None
        total += of_layer
    return total


def untransferable(architecture: Architecture, model: keras.Model) -> str | None:
    """The first layer with weights that weight transfer can neither scale and shift nor train as it is; or None."""
    for layer, own in _with_layers(architecture, model):
        if layer["class_name"] in _MODELS:
            found = untransferable(layer, own)
            if found:
                return found
        elif own.trainable_variables and not _is_known(layer):
            return f"{own.name!r}, a {layer['class_name']}"
    return None


def one_line(error: BaseException) -> str:
    """The first line of an error's text, with the one that it announces, without a full stop; its type without text."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    told = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    return told.rstrip(". ")[:300]


def _with_layers(architecture: Architecture, model: keras.Model) -> Iterator[tuple[Architecture, Any]]:
    """The configuration of each layer, and the layer; bare operations and the input of a sequential model are none."""
    layers = {layer.name: layer for layer in model.layers}
    for layer in architecture["config"]["layers"]:
        if layer["config"]["name"] in layers:
            yield layer, layers[layer["config"]["name"]]


def _is_model(layer: Any) -> bool:
    return type(layer).__name__ in _MODELS


def _is_known(layer: Architecture) -> bool:
    return _is_of_keras(layer) and layer["class_name"] in (*KERNELS, *_NORMALISING)


def _is_of_keras(layer: Architecture) -> bool:
    return layer["module"] in ("keras.layers", "keras")


def _change_layers(architecture: Architecture, change: Callable[[Architecture], Architecture]) -> None:
    layers = architecture["config"]["layers"]
    for index, layer in enumerate(layers):
        if layer["class_name"] in _MODELS:
            _change_layers(layer, change)
        else:
            layers[index] = change(layer)


def _changed(layer: Architecture, dtype: str, scale_form: str | None) -> Architecture:
    """A layer as a backbone has it."""
    config = layer["config"]
    if isinstance(config.get("dtype"), dict):
        config["dtype"] = dtype
    if not _is_of_keras(layer):
        return layer
    if layer["class_name"] == "BatchNormalization":
        config["momentum"] = min(config["momentum"], _LARGEST_MOMENTUM)
        last = len(layer.get("build_config", {}).get("input_shape", [])) - 1
        if config["scale"] and config["center"] and config["axis"] in (-1, last) and not config.get("renorm"):
            return _replaced(layer, "FusedBatchNormalization", config)
    if scale_form is not None and layer["class_name"] in KERNELS and config["trainable"]:
        # A bias that the model does not have begins at nothing, whatever its initializer would have been.
        added = {} if config["use_bias"] else {"bias_initializer": "zeros", "bias_regularizer": None}
        inner = {**layer, "config": {**config, "use_bias": True, **added}}
        own = {"name": config["name"], "trainable": True, "dtype": dtype}
        scaled = {**own, "layer": inner, "scale_form": scale_form, "trains_bias": config["use_bias"]}
        for name in ("inbound_nodes", "build_config"):
            inner.pop(name, None)
        return _replaced({**layer, "build_config": None}, "ScaledLayer", scaled)
    return layer


def _replaced(layer: Architecture, class_name: str, config: dict[str, Any]) -> Architecture:
    """The layer's place in the graph, taken by a layer of this package."""
    return {**layer, "module": None, "class_name": class_name, "registered_name": class_name, "config": config}


def _enter(architecture: Architecture, first: Architecture, entrance: Architecture) -> None:
    """Puts a layer between the input and all that reads it."""
    name = first["config"]["name"]
    _redirect(architecture["config"]["layers"], {name: _ENTRANCE})
    read = {"class_name": "__keras_tensor__", "config": {"shape": None, "dtype": "float32"}}
    read["config"] = {"shape": first["config"]["batch_shape"], "dtype": "float32", "keras_history": [name, 0, 0]}
    layer = _replaced(
        {"name": _ENTRANCE, "inbound_nodes": [{"args": [read], "kwargs": {}}]},
        entrance["class_name"],
        {"name": _ENTRANCE, "dtype": {}, **entrance["config"]},
    )
    architecture["config"]["layers"].insert(1, layer)


def _redirect(node: Any, names: Mapping[str, str]) -> None:
    """Makes all that reads the output of a layer read that of another; models inside have names of their own."""
    if isinstance(node, list):
        for each in node:
            _redirect(each, names)
    elif isinstance(node, dict):
        if node.get("class_name") == "__keras_tensor__":
            history = node["config"]["keras_history"]
            history[0] = names.get(history[0], history[0])
        for key, each in node.items():
            if key != "config":
                _redirect(each, names)


def _canonical_names(architecture: Architecture) -> dict[str, str]:
    """From the names of a model's layers to those that they would have in a new process, where none was given."""
    names: dict[str, str] = {}
    given = {layer["config"]["name"]: _counted(layer) for layer in architecture["config"]["layers"]}
    kept = {name for name, prefix in given.items() if prefix is None}
    for name, prefix in given.items():
        numbered = (f"{prefix}_{number}" if number else str(prefix) for number in itertools.count())
        names[name] = name if prefix is None else next(each for each in numbered if each not in kept)
        kept.add(names[name])
    return names


def _counted(layer: Architecture) -> str | None:
    """What Keras puts before the number in the name that it gives a layer; None for a name that someone has given."""
    prefix = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", layer["class_name"]))
    prefix = re.sub(r"([a-z])([A-Z])", r"\1_\2", prefix).lower()
    return prefix if re.fullmatch(rf"{prefix}(_\d+)?", layer["config"]["name"]) else None
