"""BiC: "Large Scale Incremental Learning" by bias correction (Wu et al., CVPR 2019)."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from mnemonics_tf import checks
from mnemonics_tf.data.holding_out import hold_out
from mnemonics_tf.data.types import ClassGroups, LabelledImages, Phase
from mnemonics_tf.methods.base import Losses, Method
from mnemonics_tf.methods.distilling import classify_and_distil, share_of_old_classes
from mnemonics_tf.system.lazy import tf

if TYPE_CHECKING:
    from mnemonics_tf.models.classifier import Classifier, Outputs
    from mnemonics_tf.models.predictor import Predictor


@dataclasses.dataclass(frozen=True)
class BiC(Method):
    """Two stages: distillation, and then a gain and an offset for the logits of new classes.

    Stage 1 minimises M / (K + M) CE + K / (K + M) KD, in which the logits of old classes are corrected as the phases
    that brought them found right. Stage 2 fits alpha and beta of this phase's logits, `alpha * z + beta`, on exemplars
    and as many new images a class that stage 1 has not seen, with the network frozen. Earlier phases' corrections stay.
    Balanced fine-tuning, where it is switched on, comes later and goes on from the corrected network.

    Attributes:
      temperature: tau of the distillation, above 0. 2 by default, as in Section 7.1 of the mnemonics paper.
      held_out_share: share of a class's exemplars that is held out for stage 2, above 0 and below 1. It is taken of the
        class that has fewest, a new one by its images, rounded down, but at least one; as many are held out of every
        class, old or new, and never the last image of one. 0.1 by default, the original's share.
      correction_penalty: weight of ((alpha - 1)^2 + beta^2) / 2 in stage 2, above 0. 0.1 by default, the original's
        weight. That one penalises beta alone and stops early; without stopping, alpha has no limit where the few
        held-out images can be told apart without error.

    Raises:
      UsageError: a value is out of its range.
    """

    temperature: float = 2.0
    held_out_share: float = 0.1
    correction_penalty: float = 0.1

    name: ClassVar[str] = "bic"
    corrects_bias: ClassVar[bool] = True
    starts_by_cross_entropy: ClassVar[bool] = True
    takes_offsets: ClassVar[bool] = True

    def __post_init__(self):
        checks.check_positive(**{"bic.temperature": self.temperature, "bic.held_out_share": self.held_out_share})
        checks.check_fraction(**{"bic.held_out_share": self.held_out_share})
        checks.check_positive(**{"bic.correction_penalty": self.correction_penalty})

    def losses(self, outputs: Outputs, teacher: Outputs | None, labels: tf.Tensor, groups: ClassGroups) -> Losses:
        return classify_and_distil(outputs, teacher, labels, share_of_old_classes(groups), self.temperature)

    def check(self, exemplars_per_class: int, head: str) -> None:
        super().check(exemplars_per_class, head)
        if exemplars_per_class < 2:
            raise checks.UsageError(
                f"Method 'bic' holds out at least one exemplar of a class and trains on another, but the budget leaves "
                f"{exemplars_per_class}. Raise the memory's budget."
            )

    def training_data(
        self, phase: Phase, exemplars: LabelledImages | None, generator: np.random.Generator
    ) -> tuple[LabelledImages, LabelledImages | None]:
        """Holds out the same number of exemplars of every old class and images of every new one, but never the last."""
        has_new = (phase.train.labels >= phase.num_old_classes).any()
        if exemplars is None or not phase.num_old_classes or not has_new:  # then there is no second stage
            return super().training_data(phase, exemplars, generator)
        data = phase.train.join(exemplars)
        fewest = np.unique(data.labels, return_counts=True)[1].min()
        count = max(1, int(fewest * self.held_out_share))
        return hold_out(data, lambda size: min(count, size - 1), generator)

    def complete(
        self, model: Classifier, predictor: Predictor, held_out: LabelledImages | None, groups: ClassGroups
    ) -> None:
        """Stage 2: fits gain and offset of the new classes on the held-out images, and gives them to the head."""
        if held_out is None:
            return
        is_new = held_out.labels >= groups.num_old_classes
        if is_new.all() or not is_new.any():
            return  # of either kind alone, the logits of new classes would only be driven up or down
        _, logits = predictor(held_out, "correct_bias")
        gain, offset = fit_correction(logits, held_out.labels, groups.num_old_classes, self.correction_penalty)
        # On top of the correction there is, which is none but where more images of known classes have come.
        model.head.new_offset.assign(gain * model.head.new_offset + offset)
        model.head.new_gain.assign(gain * model.head.new_gain)


def fit_correction(logits: np.ndarray, labels: np.ndarray, num_old_classes: int, penalty: float) -> tuple[float, float]:
    """Alpha and beta that minimise the mean cross-entropy plus `penalty * ((alpha - 1)^2 + beta^2) / 2`.

    The logits z of new classes are taken as `alpha * z + beta`, those of old classes as they are. The problem is
    strictly convex in its two unknowns: a quasi-Newton method finds its one minimum.

    Args:
      logits: logits of the held-out images, `[n, K + M]`, as the head gives them now.
      labels: class index of each held-out image, `[n]`.
      num_old_classes: K.
      penalty: weight of the distance from no correction (alpha = 1, beta = 0), above 0.

    Returns:
      Alpha and beta.
    """
    from scipy import optimize, special  # half a second of import that other methods need not pay

    logits = logits.astype(np.float64)
    rows = np.arange(len(labels))
    is_true = np.zeros_like(logits)
    is_true[rows, labels] = 1.0
    is_new = np.arange(logits.shape[1]) >= num_old_classes

    def objective(correction: np.ndarray) -> tuple[float, np.ndarray]:
        gain, offset = correction
        corrected = np.where(is_new, gain * logits + offset, logits)
        loss = (
            np.mean(special.logsumexp(corrected, axis=1) - corrected[rows, labels])
            + penalty * ((gain - 1) ** 2 + offset**2) / 2
        )
        by_logit = is_new * (special.softmax(corrected, axis=1) - is_true) / len(labels)
        return loss, np.array([np.sum(by_logit * logits) + penalty * (gain - 1), np.sum(by_logit) + penalty * offset])

    # SciPy's own tolerance, 1e-5, stops up to 6e-5 short of it.
    start, options = np.array([1.0, 0.0]), {"gtol": 1e-8}
    gain, offset = optimize.minimize(objective, start, jac=True, method="BFGS", options=options).x
    return float(gain), float(offset)
