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

    POD-spatial is `losses.pooled_outputs` of a stage of the backbone, POD-flat is 1 - cos(f, f*) of the embeddings of
    network and teacher. In phase 0 there is NCA alone. Proxies of old classes stay fixed, those of new ones start from
    the centres of their embeddings. Afterwards the network is fine-tuned on balanced exemplars, here by cross-entropy
    and as `BalancedFinetune` says; the original trains the head alone, for which `configs/methods/podnet.gin` sets
    `BalancedFinetune.trained = "head"`.

    Attributes:
      spatial_weight: weight of POD-spatial, at least 0; 0 leaves the term out. 3 by default, as PODNet's paper has it
        for CIFAR-100; it has 8 for ImageNet.
      flat_weight: weight of POD-flat, at least 0; 0 leaves the term out. 1 by default, as PODNet's paper has it for
        CIFAR-100; it has 10 for ImageNet.
      margin: delta of NCA, in cosines, at least 0. 0.6 by default, as in PODNet's paper.

    Raises:
      UsageError: a value is out of its range.
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
    takes_offsets: ClassVar[bool] = True
    finetunes: ClassVar[bool] = True
    finetuned_part: ClassVar[str] = "head"

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
        nca = losses.nca(outputs.scores, labels, outputs.eta, self.margin, outputs.offsets)
        terms = {"nca": runtime.global_mean(nca)}
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
