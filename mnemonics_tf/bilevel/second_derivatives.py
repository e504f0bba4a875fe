"""Whether TensorFlow differentiates a loss twice, and rightly: it takes some operations for constants without a word.

The gradient of an operation is made of operations again. Where TensorFlow has no gradient for those it says so, and the
error is explained. Where it declares them constant it says nothing: the engines then agree with one another and are all
wrong. What gives it away is that second derivatives are symmetric. For random vectors p and q shaped as the parameters,
v shaped as the images, and the gradients g and e of the loss with respect to parameters and images,

    < grad_theta <g, p>, q > + < grad_E <g, p>, v >  =  < grad_theta (<g, q> + <e, v>), p >

holds exactly, at kinks and in float32 too, unless an operation is lost on one of the two ways.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import ops  # TensorFlow has no public way to its list of gradients.

from mnemonics_tf.bilevel.inner_sgd import Params
from mnemonics_tf.bilevel.problem import Loss, MetaStep, UnconnectedError, connected
from mnemonics_tf.bilevel.second_order import SecondOrder, forward_over_reverse, gradients_of, reverse_over_reverse

# Images that are compared by: batch statistics need some, and more cost time.
_NUM_IMAGES = 4

# Of the length of what is compared. Rounding is below 1e-4 in float32; half precision is as coarse as 1e-2.
_TOLERANCE, _HALF_TOLERANCE = 1e-3, 0.1

_HALF = (tf.float16.as_datatype_enum, tf.bfloat16.as_datatype_enum)

# How TensorFlow says that an operation has no gradient, or none of its gradient.
_MISSING_DERIVATIVE = ("gradient registry", "recompute_grad")

_INSTEAD = (
    "Replace the layer, or use the engine 'head' or 'prototype' and have the layer inside `features`, where first "
    "derivatives are enough."
)


@contextlib.contextmanager
def explaining_missing_derivatives() -> Iterator[None]:
    """Turns what TensorFlow says of an operation without a (second) derivative into a ValueError that names it."""
    # A loop (tf.map_fn, tf.scan) whose tracing fails leaves a note there, and no strategy's scope can be entered then.
    scope = tf.compat.v1.get_variable_scope()
    caching_device = scope.caching_device
    try:
        yield
    # A missing gradient is a LookupError; tf.recompute_grad, differentiated twice, raises NotImplementedError.
    except (LookupError, NotImplementedError) as error:
        missing = _missing_derivative(error)
        if missing is None:
            raise
        raise ValueError(
            f"The inner loss has an operation that cannot be differentiated twice ({missing}). The bilevel program "
            f"needs second derivatives. {_INSTEAD}"
        ) from error
    finally:
        scope._caching_device = caching_device


def _missing_derivative(error: Exception) -> str | None:
    """What TensorFlow says of the operation without a derivative; None if that is not what it says."""
    # Inside a call of a layer Keras adds lines about its arguments.
    lines = (str(error).strip() or type(error).__name__).splitlines()
    named = [line.strip() for line in lines if any(sign in line for sign in _MISSING_DERIVATIVE)]
    return named[-1] if named else None


class SecondOrderCheck:
    """Checks at its first call that the second derivatives of a loss are right, and does nothing after that.

    It differentiates eagerly on four images, which is faster than tracing: a seventh of the first call of `adjoint` on
    ResNet-20 (2 of 14 s, on 2 busy cores). Forward mode is traced, as it fails elsewhere when it runs eagerly: half of
    the first call of `adjoint_forward` (14 of 27 s).

    Args:
      loss: of the temporary training.
      second_order: how the engine differentiates a step.
    """

    def __init__(self, loss: Loss, second_order: Callable[..., SecondOrder] = reverse_over_reverse):
        self._loss, self._second_order = loss, second_order
        self._is_done = False

    def __call__(self, step: MetaStep) -> None:
        """Compares on a few exemplars of the first inner step.

        Raises:
          ValueError: second derivatives are wrong or missing. The text names the operation where it can be found.
        """
        if self._is_done:
            return
        rows = step.plan[0][:_NUM_IMAGES]
        point = _Point(step.params, tf.gather(step.exemplars, rows), tf.gather(step.labels, rows))
        for suspicion in map(self._suspicion, _neighbours(point)):
            if suspicion is None:
                break
        else:
            raise ValueError(suspicion)
        self._is_done = True

    def _suspicion(self, point: _Point) -> str | None:
        """What is wrong at a point; None if nothing is."""
        generator = np.random.default_rng(0)
        p, q = (_normal(point.params, generator) for _ in range(2))
        q += _normal([point.images], generator)
        try:
            products, difference = _differentiate(self._loss, point, p, q)
        except NotImplementedError:  # tf.recompute_grad does not run eagerly; the engine will say what it thinks of it.
            return None
        if _is_off(difference, products, self._loss, point):
            constants = ", ".join(_constants(self._loss, point))
            found = constants or "an operation that cannot be named here (look for custom gradients)"
            return (
                f"The second derivatives of the inner loss are wrong: TensorFlow takes {found} for a constant. Every "
                f"engine that differentiates twice would be off without a word. {_INSTEAD}"
            )
        return (
            _forward_suspicion(self._loss, point, p, products) if self._second_order is forward_over_reverse else None
        )


class _Point(NamedTuple):
    """Where derivatives are taken: parameters, a few images and their labels."""

    params: Params
    images: tf.Tensor
    labels: tf.Tensor


def _neighbours(point: _Point) -> list[_Point]:
    """Points of which one that is right is enough.

    Where a network is sure of its exemplars the curvature of cross-entropy is a small difference of large numbers, so
    rounding. It is not where labels are wrong or weights small. What TensorFlow loses is lost everywhere.
    """
    return [
        point,
        point._replace(labels=tf.roll(point.labels, 1, axis=0)),
        point._replace(params=[0.3 * param for param in point.params]),
    ]


def _differentiate(loss: Loss, point: _Point, p: Params, q: Params) -> tuple[Params, tf.Tensor]:
    """`grad_theta <g, p>` with `grad_E <g, p>` as the last, and the difference of the two sides of the equation.

    `q` has v as its last part.
    """
    inputs = [*point.params, point.images]
    # What is not connected is for the engines to complain of.
    zero = tf.UnconnectedGradients.ZERO
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as outer:
        outer.watch(inputs)
        with tf.GradientTape(watch_accessed_variables=False) as inner:
            inner.watch(inputs)
            value = loss(point.params, point.images, point.labels)
        *gradients, by_image = inner.gradient(value, inputs)
        gradients = connected(gradients, "inner loss", "a parameter")
        along_p = _dot(gradients, p)
        along_q = _dot(gradients, q[:-1]) + (0 if by_image is None else _dot([by_image], q[-1:]))
    products = [tf.convert_to_tensor(each) for each in outer.gradient(along_p, inputs, unconnected_gradients=zero)]
    transposed = outer.gradient(along_q, point.params, unconnected_gradients=zero)
    return products, _dot(products, q) - _dot(transposed, p)


def _forward_suspicion(loss: Loss, point: _Point, p: Params, products: Params) -> str | None:
    """Forward mode against tapes: how far it is off; None if it is not."""
    instead = "Use the engine 'adjoint': the same gradient, by tapes alone."
    try:
        at = tf.function(forward_over_reverse, autograph=False)(loss, point.params, p, point.images, point.labels)
    except Exception as error:  # TensorFlow has many ways to say that forward mode does not know an operation.
        if isinstance(error, UnconnectedError) or _missing_derivative(error):
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            "The engine 'adjoint_forward' cannot differentiate the inner loss: TensorFlow's forward mode fails "
            f"({type(error).__name__}: {reason}). {instead}"
        ) from error
    for name, found, expected in (
        ("parameters", at.hessian_p, products[:-1]),
        ("images", [at.images], products[-1:]),
    ):
        off = tf.linalg.global_norm([a - b for a, b in zip(found, expected, strict=True)])
        if _is_off(off, expected, loss, point):
            constants = _constants(loss, point)
            named = f" It takes {', '.join(constants)} for a constant." if constants else ""
            return (
                "The engine 'adjoint_forward' is wrong for the inner loss: TensorFlow's forward mode gives second "
                f"derivatives by {name} that are {_share(off, expected):.0%} off those by tapes.{named} {instead}"
            )
    return None


def _is_off(difference: tf.Tensor, of: Params, loss: Loss, point: _Point) -> bool:
    """Whether it is more than rounding. Numbers that are not finite are for those to refuse who look at losses."""
    share = _share(difference, of)
    if not share > _TOLERANCE:
        return False
    in_half = any(each.type in _HALF for node in _nodes(loss, point) for each in node.attr.values())
    return share > _HALF_TOLERANCE or not in_half


def _share(difference: tf.Tensor, of: Params) -> float:
    return abs(float(difference)) / max(float(tf.linalg.global_norm(of)), 1e-30)


def _constants(loss: Loss, point: _Point) -> list[str]:
    """Types of operations in the gradient of the loss that TensorFlow takes for constants."""
    return sorted({node.op for node in _nodes(loss, point) if _is_constant(node.op)})


def _nodes(loss: Loss, point: _Point) -> list[Any]:
    """The operations of the loss and its gradient. Tracing them takes seconds: for what is refused."""
    traced = tf.function(gradients_of, autograph=False).get_concrete_function(loss, *point, "inner loss")
    graph = traced.graph.as_graph_def()
    return [*graph.node, *(node for function in graph.library.function for node in function.node_def)]


def _is_constant(operation: str) -> bool:
    """Whether this is the gradient of an operation, and TensorFlow takes it for a constant."""
    if not operation.endswith(("Grad", "Gradient")) or operation == "StopGradient":
        return False
    try:
        return ops.gradient_registry.lookup(operation) is None
    except LookupError:
        return False


def _normal(like: Sequence[tf.Tensor], generator: np.random.Generator) -> Params:
    return [tf.constant(generator.normal(size=tensor.shape), tensor.dtype) for tensor in like]


def _dot(first: Sequence[tf.Tensor], second: Sequence[tf.Tensor]) -> tf.Tensor:
    return tf.add_n([tf.reduce_sum(a * b) for a, b in zip(first, second, strict=True)])
