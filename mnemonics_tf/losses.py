"""Loss terms as pure functions, a value per example: the caller decides how to average."""

from __future__ import annotations

from mnemonics_tf.system.lazy import tf

_SMALLEST_SQUARE = 1e-12


def cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Softmax cross-entropy, L_c of Eq. 2.

    Args:
      logits: `[B, K + M]`.
      labels: class indices, `[B]`, or probabilities, `[B, K + M]` floating.

    Returns:
      `[B]`, in nats.
    """
    if labels.dtype.is_floating:
        # TensorFlow's fused operation takes labels for constants in its second derivative.
        return -tf.reduce_sum(labels * tf.nn.log_softmax(logits), axis=1)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)


def less_forget(features: tf.Tensor, teacher_features: tf.Tensor) -> tf.Tensor:
    """LUCIR's less-forget constraint: 1 - cos(f, f*), which turns embeddings back to the teacher's directions.

    Args:
      features: `[B, d]`.
      teacher_features: `[B, d]`, of the network before this phase.

    Returns:
      `[B]`, in 0..2.
    """
    cosines = tf.math.l2_normalize(features, axis=1) * tf.math.l2_normalize(teacher_features, axis=1)
    return 1.0 - tf.reduce_sum(cosines, axis=1)


def margin_ranking(
    scores: tf.Tensor, labels: tf.Tensor, num_old_classes: int, margin: float, num_negatives: int
) -> tf.Tensor:
    """LUCIR's inter-class separation: a rehearsed image's own class shall beat the new classes by a margin.

    The mean over the `num_negatives` highest new-class scores of max(0, margin - s_true + s_new).

    Args:
      scores: cosines before eta, `[B, K + M]`.
      labels: class indices, `[B]`; meaningful where the label is an old class.
      num_old_classes: K.
      margin: m.
      num_negatives: how many new classes to compare with; all of them if there are fewer.

    Returns:
      `[B]`; values at images of new classes mean nothing and must be masked.
    """
    true_scores = tf.gather(scores, labels, axis=1, batch_dims=1)
    new_scores = scores[:, num_old_classes:]
    hardest = tf.math.top_k(new_scores, min(num_negatives, new_scores.shape[1])).values
    return tf.reduce_mean(tf.nn.relu(margin - true_scores[:, None] + hardest), axis=1)


def distillation(logits: tf.Tensor, teacher_logits: tf.Tensor, temperature: float) -> tf.Tensor:
    """Knowledge distillation, L_d of Eq. 1: cross-entropy with the teacher's softened probabilities.

    Args:
      logits: `[B, k]`, of the classes that the teacher knows.
      teacher_logits: `[B, k]`.
      temperature: tau, by which both logits are divided.

    Returns:
      `[B]`, in nats.
    """
    targets = tf.nn.softmax(teacher_logits / temperature)
    return tf.nn.softmax_cross_entropy_with_logits(targets, logits / temperature)


def binary_cross_entropy(logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """A yes-or-no question for every class (iCaRL's loss), added up over the classes.

    Args:
      logits: of a sigmoid, `[B, k]`.
      targets: probabilities, `[B, k]`.

    Returns:
      `[B]`, in nats.
    """
    return tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(targets, logits), axis=1)


def nca(scores: tf.Tensor, labels: tf.Tensor, eta: tf.Tensor | float, margin: float) -> tf.Tensor:
    """Neighbourhood component analysis with a margin (PODNet).

        max(0, -log(exp(eta (s_true - margin)) / sum over the other classes of exp(eta s)))

    A learned eta takes no gradient from the margin: the quickest way to a smaller loss would be an eta below zero, from
    where training does not come back. (The published code subtracts the margin from all similarities alike, where it
    cancels.)

    Args:
      scores: similarities with the classes, `[B, K + M]`, of at least two classes.
      labels: class indices, `[B]`.
      eta: scale, a scalar.
      margin: delta.

    Returns:
      `[B]`, in nats.
    """
    is_true = tf.one_hot(labels, scores.shape[1], on_value=True, off_value=False, dtype=tf.bool)
    true_scores = tf.gather(scores, labels, axis=1, batch_dims=1)
    others = tf.where(is_true, tf.fill(tf.shape(scores), scores.dtype.min), eta * scores)
    required = eta * true_scores - tf.stop_gradient(tf.convert_to_tensor(eta, scores.dtype)) * margin
    return tf.nn.relu(tf.reduce_logsumexp(others, axis=1) - required)


def pooled_outputs(maps: tf.Tensor, teacher_maps: tf.Tensor) -> tf.Tensor:
    """PODNet's spatial distillation of one stage: the distance of the pooled squares of two feature maps.

    Squares are added up over the height and over the width; both profiles together are scaled to length 1.

    Args:
      maps: `[B, h, w, c]`.
      teacher_maps: `[B, h, w, c]`.

    Returns:
      `[B]`, Euclidean distances in 0..2.
    """
    difference = _profiles(maps) - _profiles(teacher_maps)
    # The root has no derivative at 0, where a network stands that has not moved.
    return tf.sqrt(tf.maximum(tf.reduce_sum(difference**2, axis=1), _SMALLEST_SQUARE))


def _profiles(maps: tf.Tensor) -> tf.Tensor:
    """`[B, (h + w) * c]` of length 1."""
    _, height, width, channels = maps.shape
    squares = maps**2
    over_height = tf.reshape(tf.reduce_sum(squares, axis=1), [-1, width * channels])
    over_width = tf.reshape(tf.reduce_sum(squares, axis=2), [-1, height * channels])
    return tf.math.l2_normalize(tf.concat([over_height, over_width], axis=1), axis=1)
