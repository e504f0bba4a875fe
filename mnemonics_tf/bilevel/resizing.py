"""The derivative that bilinear resizing lacks in TensorFlow.

The gradient of `ResizeBilinear` is `ResizeBilinearGrad`, a linear map, and TensorFlow declares that map a constant:
second derivatives lose all that flows through it, in every mode and without a word (30 % of a meta-gradient on a small
network with one bilinear upsampling). The derivative of a linear map's transpose is the map itself.
"""

from __future__ import annotations

import tensorflow as tf
from tensorflow.python.framework import ops  # TensorFlow has no public way to replace a gradient.

_NAME = "ResizeBilinear"


def mend_bilinear_resizing() -> None:
    """Gives TensorFlow the derivative, for this process. First derivatives stay what they are, to the bit.

    If a later TensorFlow keeps its list of gradients in another way, nothing happens, and the engines refuse models
    with bilinear resizing (see `second_derivatives`).
    """
    registered = getattr(ops.gradient_registry, "_registry", {}).get(_NAME)
    if isinstance(registered, dict) and "type" in registered:
        registered["type"] = _gradient


def is_mended(operation: str) -> bool:
    """Whether a type of operation that TensorFlow takes for a constant is differentiated all the same."""
    return operation == f"{_NAME}Grad" and ops.gradient_registry.lookup(_NAME) is _gradient


def _gradient(op: tf.Operation, upstream: tf.Tensor) -> list[tf.Tensor | None]:
    images = op.inputs[0]  # of which only the shape and the dtype count
    options = {name: op.get_attr(name) for name in ("align_corners", "half_pixel_centers")}

    @tf.custom_gradient
    def transposed(upstream: tf.Tensor):
        def differentiate(by_image: tf.Tensor) -> tf.Tensor:
            return tf.raw_ops.ResizeBilinear(images=by_image, size=tf.shape(upstream)[1:3], **options)

        return tf.raw_ops.ResizeBilinearGrad(grads=upstream, original_image=images, **options), differentiate

    return [transposed(upstream), None]
