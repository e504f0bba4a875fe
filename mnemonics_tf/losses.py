"""Loss terms as pure functions, a value per example: the caller decides how to average."""

from __future__ import annotations

import tensorflow as tf


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
