"""The derivative that bilinear resizing lacks in TensorFlow.

The gradient of `ResizeBilinear` is `ResizeBilinearGrad`, a linear map, and TensorFlow declares that map a constant:
second derivatives lose all that flows through it, in every mode and without a word (30 % of a meta-gradient on a small
network with one bilinear upsampling). The derivative of a linear map's transpose is the map itself.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow.python.framework import ops  # TensorFlow has no public way to replace a gradient.

from mnemonics_tf.models.recorded import with_gradient


def mend_bilinear_resizing() -> None:
    """Gives TensorFlow the derivative, for this process. First derivatives stay what they are, to the bit.

    If a later TensorFlow keeps its list of gradients in another way, nothing happens, and the engines refuse models
    with bilinear resizing (see `second_derivatives`).
    """
    registry = getattr(ops.gradient_registry, "_registry", {})
    mended = {"ResizeBilinear": _gradient, "ResizeBilinearGrad": _gradient_of_gradient}
    if all(isinstance(registry.get(name), dict) and "type" in registry[name] for name in mended):
        for name, gradient in mended.items():
            registry[name]["type"] = gradient


def _gradient(op: tf.Operation, upstream: tf.Tensor) -> list[tf.Tensor | None]:
    """`ResizeBilinear`'s, which tells tapes what its derivative is."""
    images, options = op.inputs[0], _options(op)  # of the images only the shape and the dtype count

    def transposed(upstream: tf.Tensor):
        def differentiate(by_image: tf.Tensor) -> list[tf.Tensor]:
            return [_resized(by_image, upstream, options)]

        return tf.raw_ops.ResizeBilinearGrad(grads=upstream, original_image=images, **options), differentiate

    return [with_gradient("ResizeBilinearTransposed", transposed, upstream), None]


def _gradient_of_gradient(op: tf.Operation, by_image: tf.Tensor) -> list[tf.Tensor | None]:
    """`ResizeBilinearGrad`'s, for the gradients of functions and loops, which know operations alone and no tapes."""
    # Tapes and forward mode remember no inputs of it: they are told by `_gradient`.
    return [None if op.inputs is None else _resized(by_image, op.inputs[0], _options(op)), None]


def _resized(images: tf.Tensor, like: tf.Tensor, options: dict[str, Any]) -> tf.Tensor:
    return tf.raw_ops.ResizeBilinear(images=images, size=tf.shape(like)[1:3], **options)


def _options(op: tf.Operation) -> dict[str, Any]:
    return {name: op.get_attr(name) for name in ("align_corners", "half_pixel_centers")}
