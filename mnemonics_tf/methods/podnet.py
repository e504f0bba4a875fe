"""PODNet: "Pooled Outputs Distillation for Small-Tasks Incremental Learning" (Douillard et al., ECCV 2020)."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, ClassVar

from mnemonics_tf import checks, losses, runtime
from mnemonics_tf.data.types import ClassGroups
from mnemonics_tf.methods.base import Losses, Method
from mnemonics_tf.system.lazy import tf

if TYPE_CHECKING:
    from mnemonics_tf.models.classifier import Outputs


@dataclasses.dataclass(frozen=True)
class PODNet(Method):
    """A margin loss on a head of proxies, and distillation of pooled feature maps and of the embedding.

        NCA + sqrt((K + M) / M) * (spatial_weight * mean over stages of POD-spatial + flat_weight * POD-flat)

    Proxies of old classes stay fixed, those of new ones start from the centres of their embeddings; afterwards the
    head alone is fine-tuned on balanced exemplars, here by cross-entropy and at the rates of `BalancedFinetune`. Stages
    are the backbone's, three or four.

    Attributes:
      spatial_weight: 3 for CIFAR-100, 8 for ImageNet; 0 leaves the term out.
      flat_weight: 1 for CIFAR-100, 10 for ImageNet; 0 leaves the term out.
      margin: delta, in cosines.
    """

    spatial_weight: float = 3.0
    flat_weight: float = 1.0
    margin: float = 0.6

    name: ClassVar[str] = "podnet"
    head: ClassVar[str] = "proxies"
    # NCA is of scores: it would not train the bias of a linear head.
    heads: ClassVar[tuple[str, ...]] = ("cosine", "proxies")
    trains_old_head: ClassVar[bool] = False
    tells_maps: ClassVar[bool] = True
    finetunes: ClassVar[bool] = True

    def __post_init__(self):
        values = {name: getattr(self, name) for name in ("spatial_weight", "flat_weight", "margin")}
        checks.check_non_negative(**{f"podnet.{name}": value for name, value in values.items()})

    @property
    def imprints(self) -> bool:
        return True

    @property
    def initial_training(self) -> str:
        return f"nca with margin {self.margin}"

    def losses(self, outputs: Outputs, teacher: Outputs | None, labels: tf.Tensor, groups: ClassGroups) -> Losses:
        terms = {"nca": runtime.global_mean(losses.nca(outputs.scores, labels, outputs.eta, self.margin))}
        if teacher is None:
            return terms
        scale = math.sqrt(groups.num_classes / groups.num_new_classes)
        if self.spatial_weight:
            stages = [losses.pooled_outputs(*pair) for pair in zip(outputs.maps, teacher.maps, strict=True)]
            spatial = runtime.global_mean(tf.add_n(stages) / len(stages))
            terms["pod_spatial"] = scale * self.spatial_weight * spatial
        if self.flat_weight:
            flat = runtime.global_mean(losses.less_forget(outputs.features, teacher.features))
            terms["pod_flat"] = scale * self.flat_weight * flat
        return terms
