"""Loss terms as pure functions that return a value per example, `[B]`: the caller decides how to average."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

from mnemonics_tf.system.lazy import tf

_SMALLEST_SQUARE = 1e-12

_twice: contextvars.ContextVar[bool] = contextvars.ContextVar("_twice", default=False)


@contextlib.contextmanager
def differentiated_twice() -> Iterator[None]:
    """Inside, all losses here have right second derivatives, by a teacher's answers too.

    TensorFlow's fused operation takes soft targets for constants in its second derivative, and rounds otherwise.
    """
    token = _twice.set(True)
    try:
        yield
    finally:
        _twice.reset(token)


def cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Softmax cross-entropy, L_c of Eq. 2: -sum_k y_k log softmax(logits)_k over all K + M classes.

    It can be differentiated twice, by logits and by soft labels.

    Args:
      logits: what the softmax is taken of, `[B, K + M]`.
      labels: class indices, `[B]` of integers, or soft labels, probabilities y `[B, K + M]` of floats.

    Returns:
      `[B]`, in nats, at least 0.
    """
    if labels.dtype.is_floating:
        # TensorFlow's fused operation takes labels for constants in its second derivative.
        return -tf.reduce_sum(labels * tf.nn.log_softmax(logits), axis=1)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)


def less_forget(features: tf.Tensor, teacher_features: tf.Tensor) -> tf.Tensor:
    """LUCIR's less-forget constraint: 1 - cos(f, f*), which turns embeddings back to the teacher's directions.

    Args:
      features: embeddings f of any length, `[B, d]`.
      teacher_features: embeddings f* by the network before this phase, `[B, d]`.

    Returns:
      `[B]`, in 0..2.
    """
    cosines = tf.math.l2_normalize(features, axis=1) * tf.math.l2_normalize(teacher_features, axis=1)
    return 1.0 - tf.reduce_sum(cosines, axis=1)


def margin_ranking(
    scores: tf.Tensor, labels: tf.Tensor, num_old_classes: int, margin: float, num_negatives: int
) -> tf.Tensor:
    """LUCIR's inter-class separation: a rehearsed image's own class shall beat the new classes by a margin.

    The value is the mean of max(0, margin - s_true + s_new) over the `num_negatives` new classes with the highest
    scores s_new.

    Args:
      scores: cosines with the class weights, before they are multiplied by eta, `[B, K + M]`.
      labels: class indices, `[B]`, of new and rehearsed images alike.
      num_old_classes: K; classes from index K on are new, and there must be at least one.
      margin: m, in cosines.
      num_negatives: how many new classes to compare with; all of them if there are fewer.

    Returns:
      `[B]`, at least 0. Values at images of new classes mean nothing and must be masked.
    """
    true_scores = tf.gather(scores, labels, axis=1, batch_dims=1)
    new_scores = scores[:, num_old_classes:]
    hardest = tf.math.top_k(new_scores, min(num_negatives, new_scores.shape[1])).values
    return tf.reduce_mean(tf.nn.relu(margin - true_scores[:, None] + hardest), axis=1)


def distillation(logits: tf.Tensor, teacher_logits: tf.Tensor, temperature: float) -> tf.Tensor:
    """Knowledge distillation, L_d of Eq. 1: cross-entropy with the teacher's softened probabilities.

    With p^ = softmax(teacher_logits / tau) and p = softmax(logits / tau) it is -sum_k p^_k log p_k.

    Args:
      logits: logits of the classes that are distilled, k of those that the teacher knows, `[B, k]`.
      teacher_logits: the teacher's logits of the same classes, `[B, k]`.
      temperature: tau, above 0; above 1 it gives small probabilities more weight.

    Returns:
      `[B]`, in nats; the smallest possible value is the entropy of p^.
    """
    targets = tf.nn.softmax(teacher_logits / temperature)
    if _twice.get():
        return cross_entropy(logits / temperature, targets)
    return tf.nn.softmax_cross_entropy_with_logits(targets, logits / temperature)


def binary_cross_entropy(logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Binary cross-entropy added up over the classes, iCaRL's loss: a yes-or-no question for every class.

    With p = sigmoid(logits) and targets q it is -sum_k (q_k log p_k + (1 - q_k) log(1 - p_k)).

    Args:
      logits: what the sigmoid is taken of, `[B, k]`.
      targets: probability of yes for each class, `[B, k]`, in 0..1.

    Returns:
      `[B]`, in nats, at least 0.
    """
    return tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(targets, logits), axis=1)


def nca(
    scores: tf.Tensor, labels: tf.Tensor, eta: tf.Tensor | float, margin: float, offsets: tf.Tensor | None = None
) -> tf.Tensor:
    """Neighbourhood component analysis with a margin (PODNet).

        max(0, -log(exp(eta (s_true - margin)) / sum over the other classes of exp(eta s)))

    A learned eta takes no gradient from the margin: the quickest way to a smaller loss would be an eta below zero, from
    where training does not come back. (The published code subtracts the margin from all similarities alike, where it
    cancels.)

    Args:
      scores: similarities s with the classes, `[B, K + M]`, in -1..1, of at least two classes.
      labels: class indices, `[B]`.
      eta: the scale of similarities, a scalar, learned or constant.
      margin: delta, in units of the similarities.
      offsets: what is added to eta * s of each class, as to the logits of a softmax, `[B, K + M]`; None for nothing.

    Returns:
      `[B]`, in nats, at least 0.
    """
    is_true = tf.one_hot(labels, scores.shape[1], on_value=True, off_value=False, dtype=tf.bool)
    true_scores = tf.gather(scores, labels, axis=1, batch_dims=1)
    scaled, true = eta * scores, eta * true_scores
    if offsets is not None:
        scaled, true = scaled + offsets, true + tf.gather(offsets, labels, axis=1, batch_dims=1)
    others = tf.where(is_true, tf.fill(tf.shape(scores), scores.dtype.min), scaled)
    required = true - tf.stop_gradient(tf.convert_to_tensor(eta, scores.dtype)) * margin
    return tf.nn.relu(tf.reduce_logsumexp(others, axis=1) - required)


def pooled_outputs(maps: tf.Tensor, teacher_maps: tf.Tensor) -> tf.Tensor:
    """PODNet's spatial distillation (POD-spatial) of one stage: the distance of two pooled feature maps.

    A map is squared and pooled: added up over its height, `[w * c]`, and over its width, `[h * c]`. Both profiles
    together are scaled to length 1, `[(h + w) * c]`.

    Args:
      maps: feature maps of the network in training, `[B, h, w, c]`.
      teacher_maps: feature maps of the network before this phase at the same stage, `[B, h, w, c]`.

    Returns:
      `[B]`, Euclidean distances of the pooled maps: from 1e-6, for equal ones, to the root of 2, as no entry is
      negative.
    """
    difference = _profiles(maps) - _profiles(teacher_maps)
    # The root has no derivative at 0, where a network stands that has not moved.
    return tf.sqrt(tf.maximum(tf.reduce_sum(difference**2, axis=1), _SMALLEST_SQUARE))


def _profiles(maps: tf.Tensor) -> tf.Tensor:
    """Squares of maps `[B, h, w, c]`, pooled over the height and over the width: `[B, (h + w) * c]` of length 1."""
    _, height, width, channels = maps.shape
    squares = maps**2
    over_height = tf.reshape(tf.reduce_sum(squares, axis=1), [-1, width * channels])
    over_width = tf.reshape(tf.reduce_sum(squares, axis=2), [-1, height * channels])
    return tf.math.l2_normalize(tf.concat([over_height, over_width], axis=1), axis=1)
