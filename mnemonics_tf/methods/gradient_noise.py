"""Random noise on gradients, which EEIL may train with."""

from __future__ import annotations

import dataclasses

from mnemonics_tf import runtime
from mnemonics_tf.system.lazy import tf


@dataclasses.dataclass(frozen=True)
class GradientNoise:
    """Normal noise on gradients (Neelakantan et al.): its variance in step t = 0, 1, ... is scale / (1 + t)^decay.

    Attributes:
      scale: eta, the variance in step 0.
      decay: gamma, how fast the variance falls, at least 0; 0 keeps it constant.
    """

    scale: float
    decay: float

    def add(self, gradients: list[tf.Tensor], step: tf.Tensor, seed: int) -> list[tf.Tensor]:
        """The gradients with the noise of a step added.

        Gradients of replicas are added up afterwards, so each replica adds its share of the same noise.

        Args:
          gradients: a gradient for each trained variable, on this replica.
          step: t, the number of steps before this one, a scalar.
          seed: the seed of the noise; the same seed and step give the same noise.
        """
        share = 1.0 / runtime.num_replicas()
        deviation = tf.sqrt(self.scale / (1.0 + tf.cast(step, tf.float32)) ** self.decay)
        noisy = []
        for index, gradient in enumerate(gradients):
            draw = tf.stack([tf.cast(step, tf.int64) * len(gradients) + index, tf.constant(seed, tf.int64)])
            noisy.append(gradient + share * deviation * tf.random.stateless_normal(gradient.shape, draw))
        return noisy
