"""What a method's own code costs: a training step of each method against the same arithmetic written out by hand.

The step runs the network, the teacher at inference, the losses and their gradients (ResNet-20, 50 old and 10 new
classes, 128 images of 32 x 32). By hand the formulas stand in plain TensorFlow, with the same network and teacher: what
differs is the code of the package around them. Both are traced once and take turns, so that other work on the machine
meets both; the ratio is that of the fastest turns, which it slows least. Some five minutes on 2 cores.
Usage: python launch/benchmarks/method_overhead.py     (from any folder)
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import inputs
import tensorflow as tf

from mnemonics_tf import methods
from mnemonics_tf.data.types import ClassGroups
from mnemonics_tf.methods.base import Method
from mnemonics_tf.models.classifier import Classifier, ClassifierFactory, Outputs
from mnemonics_tf.models.resnet import ResNet

_GROUPS = ClassGroups((50, 10))
_OLD, _ALL = 50, 60
_ROUNDS = 30

Loss = Callable[[Outputs, Outputs | None, tf.Tensor, Method], tf.Tensor]


def _cross_entropy(student: Outputs, labels: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, student.logits))


def _soft_cross_entropy(student: tf.Tensor, teacher: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(tf.nn.softmax(teacher / 2.0), student / 2.0))


def _mixed(weight: float) -> Loss:
    def loss(student, teacher, labels, method):
        kept = _soft_cross_entropy(student.logits[:, :_OLD], teacher.logits)
        return weight * kept + (1 - weight) * _cross_entropy(student, labels)

    return loss


def _unit(values: tf.Tensor) -> tf.Tensor:
    return tf.math.l2_normalize(values, axis=1)


def _lucir(student, teacher, labels, method):
    turned = tf.reduce_mean(1 - tf.reduce_sum(_unit(student.features) * _unit(teacher.features), axis=1))
    own = tf.gather(student.scores, labels, axis=1, batch_dims=1)
    rivals = tf.math.top_k(student.scores[:, _OLD:], 2).values
    ranked = tf.reduce_mean(tf.nn.relu(0.5 - own[:, None] + rivals), axis=1)
    rehearsed = tf.cast(labels < _OLD, tf.float32)
    ranking = tf.math.divide_no_nan(tf.reduce_sum(ranked * rehearsed), tf.reduce_sum(rehearsed))
    return _cross_entropy(student, labels) + 5 * (_OLD / 10) ** 0.5 * turned + ranking


def _podnet(student, teacher, labels, method):
    own = tf.gather(student.scores, labels, axis=1, batch_dims=1)
    others = student.eta * student.scores - 1e9 * tf.one_hot(labels, _ALL)
    nca = tf.reduce_mean(tf.nn.relu(tf.reduce_logsumexp(others, axis=1) - student.eta * (own - 0.6)))
    spatial = 0.0
    for maps, old_maps in zip(student.maps, teacher.maps, strict=True):
        pairs = []
        for squares in (maps**2, old_maps**2):
            rows, columns = tf.reduce_sum(squares, axis=2), tf.reduce_sum(squares, axis=1)
            flat = [tf.reshape(each, [-1, each.shape[1] * each.shape[2]]) for each in (columns, rows)]
            pairs.append(_unit(tf.concat(flat, axis=1)))
        distances = tf.sqrt(tf.maximum(tf.reduce_sum((pairs[0] - pairs[1]) ** 2, axis=1), 1e-12))
        spatial += tf.reduce_mean(distances) / len(student.maps)
    flat = tf.reduce_mean(1 - tf.reduce_sum(_unit(student.features) * _unit(teacher.features), axis=1))
    return nca + (_ALL / 10) ** 0.5 * (3 * spatial + flat)


def _eeil(student, teacher, labels, method):
    return _cross_entropy(student, labels) + _soft_cross_entropy(student.logits[:, :_OLD], teacher.logits)


BY_HAND: dict[str, Loss] = {
    "bic": _mixed(_OLD / _ALL),
    "eeil": _eeil,
    "icarl": _mixed(0.5),
    "joint": lambda student, teacher, labels, method: _cross_entropy(student, labels),
    "lucir": _lucir,
    "lwf": _mixed(0.5),
    "podnet": _podnet,
    "replay": lambda student, teacher, labels, method: _cross_entropy(student, labels),
    "wa": _mixed(_OLD / _ALL),
}


def _package_loss(student: Outputs, teacher: Outputs | None, labels: tf.Tensor, method: Method) -> tf.Tensor:
    return tf.add_n(list(method.losses(student, teacher, labels, _GROUPS).values()))


def _step(model: Classifier, teacher: Classifier | None, method: Method, loss: Loss) -> Callable[..., tf.Tensor]:
    @tf.function
    def step(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            taught = None if teacher is None else teacher(images, training=False)
            total = loss(model(images, training=True), taught, labels, method)
        gradients = tape.gradient(total, model.trainable_variables)
        # Nothing is trained, so both sides go on with the same weights; the sum keeps every gradient in the graph.
        return total + 0.0 * tf.add_n([tf.reduce_sum(gradient) for gradient in gradients])

    return step


def _ratio(name: str) -> tuple[float, float, float]:
    """Seconds of a step by hand, ratio of the package's to it, and the difference of the two losses."""
    method = methods.available()[name]()
    factory = ClassifierFactory(
        ResNet(inputs.RESNET20, inputs.WIDTHS), (32, 32, 3), None, method.head, method.corrects_bias, method.tells_maps
    )
    before = factory.build(0, _OLD)
    model = factory.grow(before, 10)
    model.train_phase(False, method.trains_old_head)
    teacher = before if method.distils else None
    images, labels = (tf.constant(part) for part in inputs.labelled_images(inputs.TRAINING_BATCH, 0))
    steps = [_step(model, teacher, method, loss) for loss in (BY_HAND[name], _package_loss)]
    # The first call moves batch norm's statistics, of which training makes no use.
    losses = [float(step(images, labels)) for step in steps]
    seconds: list[list[float]] = [[], []]
    for turn in range(_ROUNDS):
        # In alternating order, so that neither always comes second.
        for side in (0, 1) if turn % 2 else (1, 0):
            start = time.perf_counter()
            steps[side](images, labels).numpy()
            seconds[side].append(time.perf_counter() - start)
    by_hand, package = (min(side) for side in seconds)
    return by_hand, package / by_hand, abs(losses[0] - losses[1])


def main() -> None:
    """Prints a line a method."""
    print("method   by hand (s)  package / by hand  difference of losses", flush=True)
    for name in sorted(BY_HAND):
        by_hand, ratio, difference = _ratio(name)
        print(f"{name:7s}  {by_hand:11.3f}  {ratio:17.3f}  {difference:.1e}", flush=True)


if __name__ == "__main__":
    main()
