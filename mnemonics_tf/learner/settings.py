"""All settings of a learner, and every check of one against another."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from mnemonics_tf import checks
from mnemonics_tf.data.batches import images_per_epoch
from mnemonics_tf.data.types import LabelledImages
from mnemonics_tf.evaluation.settings import CLASSIFIERS, Probe
from mnemonics_tf.memory.optimising.chunks import smallest_chunk
from mnemonics_tf.memory.optimising.objective_settings import Matching, NextPhase
from mnemonics_tf.memory.optimising.settings import ExemplarLevel
from mnemonics_tf.memory.settings import Memory
from mnemonics_tf.methods.base import Method
from mnemonics_tf.models.backbone import Backbone
from mnemonics_tf.models.choices import HEADS
from mnemonics_tf.models.resnet import ResNet
from mnemonics_tf.training.rehearsal import Rehearsal
from mnemonics_tf.training.settings import BalancedFinetune, ModelLevel


def _with_fractions(part: Any) -> Any:
    """A part of the settings with whole numbers made fractions where those belong: Keras takes no 1 for a rate."""
    whole = {
        field.name: float(value)
        for field in dataclasses.fields(part)
        if field.init and "float" in str(field.type) and type(value := getattr(part, field.name)) is int
    }
    return dataclasses.replace(part, **whole) if whole else part


@dataclasses.dataclass(frozen=True)
class PhasePlan:
    """What is known of phases that are planned, before an image is opened.

    Attributes:
      phase_sizes: number of new classes in each phase.
      class_sizes: training images of each class, by index.
    """

    phase_sizes: Sequence[int]
    class_sizes: Sequence[int]


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a learner learns. Made from Python or from a configuration; each part checks itself when it is made.

    Attributes:
      method: the base method, whose losses train the network.
      network: the backbone, a residual network or a Keras model.
      memory: which exemplars are kept.
      model_level: how the network of a phase is trained.
      rehearsal: how later phases use memory in that training.
      exemplar_level: how exemplars are learned and adjusted.
      next_phase: its objective `next_phase`.
      matching: its objective `matching`.
      finetuning: the balanced fine-tuning after them.
      probe: how exemplars are judged.
      head: `cosine`, `linear` or `proxies`; None for the method's own.
      classifier: what is reported and served: `cnn` (the head) or `nme` (the nearest mean of exemplars); None for what
        the method predicts by.
      seed: of initial weights, batches and random exemplars.
      deterministic: the same bits every time on the same machine, at some cost in speed on GPUs.
    """

    method: Method
    network: ResNet | Backbone = dataclasses.field(default_factory=ResNet)
    memory: Memory = dataclasses.field(default_factory=Memory)
    model_level: ModelLevel = dataclasses.field(default_factory=ModelLevel)
    rehearsal: Rehearsal = dataclasses.field(default_factory=Rehearsal)
    exemplar_level: ExemplarLevel = dataclasses.field(default_factory=ExemplarLevel)
    next_phase: NextPhase = dataclasses.field(default_factory=NextPhase)
    matching: Matching = dataclasses.field(default_factory=Matching)
    finetuning: BalancedFinetune = dataclasses.field(default_factory=BalancedFinetune)
    probe: Probe = dataclasses.field(default_factory=Probe)
    head: str | None = None
    classifier: str | None = None
    seed: int = 0
    deterministic: bool = True

    def __post_init__(self):
        checks.check_non_negative_integer(**{"Experiment.seed": self.seed})
        checks.check_bool(**{"Experiment.deterministic": self.deterministic})
        if self.head is not None:
            checks.check_choice("Experiment.head", self.head, HEADS)
        if self.classifier is not None:
            checks.check_choice("Experiment.classifier", self.classifier, CLASSIFIERS)
        for field in dataclasses.fields(self):
            part = getattr(self, field.name)
            if dataclasses.is_dataclass(part) and not isinstance(part, type):
                object.__setattr__(self, field.name, _with_fractions(part))

    @property
    def head_name(self) -> str:
        """The head that the network has."""
        return self.head or self.method.head

    @property
    def primary_classifier(self) -> str:
        """What is reported and served: `cnn` or `nme`."""
        return self.classifier or self.method.primary_classifier

    def soft_labels(self, num_classes: int) -> int:
        """Columns of the soft label that each exemplar has once so many classes are known; 0 if none is learned."""
        return num_classes if self.exemplar_level.learn_labels else 0

    def check(self, later_phases: bool = True) -> None:
        """Checks the parts against one another. Needs no data, no device and no file.

        Args:
          later_phases: whether phases follow the first one, so that exemplars are adjusted.

        Raises:
          UsageError: two settings contradict each other.
        """
        memory, level = self.memory, self.exemplar_level
        self.method.check_keeps_exemplars(memory.keeps)
        self.method.check_head(self.head_name)
        if memory.total is None and not memory.counts_bytes:
            self.method.check(memory.per_class * memory.images_per_slot, self.head_name)
            if later_phases:
                memory.check_parts(memory.per_class, level.num_parts)
        if level.engine_object.needs_scaled_head and self.head_name == "linear":
            raise checks.UsageError(
                f"ExemplarLevel.engine = {level.engine_object.name!r} compares cosines at the scale that a head has "
                "learned, and a linear head has none. Use another engine, or Experiment.head = 'cosine'."
            )
        if level.learn_labels and not (memory.learns and self.finetuning.enabled):
            raise checks.UsageError(
                "ExemplarLevel.learn_labels = True: only the balanced fine-tuning uses soft labels, and needs them for "
                "all exemplars. Set ExemplarMemory.strategy = 'mnemonics' and BalancedFinetune.enabled = True."
            )
        if level.project_every is not None and memory.store_floats:
            raise checks.UsageError(
                f"ExemplarLevel.project_every = {level.project_every} with ExemplarMemory.store_floats = True: floats "
                "are kept as they are, so there is nothing to learn through. Leave one of the two out."
            )
        if memory.learns and level.objective == "matching":
            self.matching.check_batches(level.batch_size)
        pieces = level.engine_object.piece_size
        by_next_phase = memory.learns and level.objective == "next_phase"
        if by_next_phase and (pieces or 0) % 2 and not self.method.averages_images:
            raise checks.UsageError(
                f"ExemplarLevel.images_at_once = {pieces} with objective = 'next_phase': a part of the loss of method "
                f"{self.method.name!r} is a mean over some images of a batch, so that half of each piece must be "
                "memory. Give an even number."
            )
        if not memory.keeps:
            self._check_without_exemplars()
        self._check_rehearsal()
        self._check_soft_targets()
        if self.method.num_units is not None and self.model_level.scale_form is not None:
            raise checks.UsageError(
                f"ModelLevel.weight_transfer = {self.model_level.weight_transfer!r}: {self.method.name!r} trains "
                "nothing after phase 0. Set ModelLevel.weight_transfer = 'none'."
            )
        self._check_backbone()

    def _check_backbone(self) -> None:
        """Raises UsageError if a Keras model cannot be the backbone of what the other settings ask for."""
        if not isinstance(self.network, Backbone):
            return
        if self.model_level.scale_form is not None:
            self.network.check_transfer()
        if self.method.tells_maps and not self.network.stage_outputs:
            raise checks.UsageError(
                f"Method {self.method.name!r} looks at the outputs of stages, and the backbone {self.network.name!r} "
                "names none. Name layers: Backbone(model, stages=(...)), or use another method."
            )
        matches = self.memory.learns and self.exemplar_level.objective == "matching"
        if matches and not self.network.stage_outputs:
            raise checks.UsageError(
                "ExemplarLevel.objective = 'matching': it looks at the outputs of stages, and the backbone "
                f"{self.network.name!r} names none. Name layers: Backbone(model, stages=(...)), or set another one."
            )
        if matches and self.matching.gradients == "block":
            raise checks.UsageError(
                f"Matching.gradients = 'block': which layers of {self.network.name!r} are its last block is not known. "
                "Set gradients = 'head' or 'none'."
            )

    def _check_without_exemplars(self) -> None:
        if self.finetuning.enabled:
            raise checks.UsageError(
                "ExemplarMemory.per_class = 0: balanced fine-tuning has nothing to train on. Set "
                "BalancedFinetune.enabled = False."
            )
        if self.primary_classifier == "nme":
            raise checks.UsageError(
                "ExemplarMemory.per_class = 0: there are no means of exemplars to predict by. Set "
                "Experiment.classifier = 'cnn'."
            )

    def _check_rehearsal(self) -> None:
        """Raises UsageError if later phases cannot use memory as `rehearsal` says, or if it would change nothing."""
        rehearsal, method = self.rehearsal, self.method
        if method.num_units is not None:
            for field in dataclasses.fields(rehearsal):
                if getattr(rehearsal, field.name) != field.default:
                    raise checks.UsageError(
                        f"Rehearsal.{field.name} = {getattr(rehearsal, field.name)!r}: {method.name!r} trains nothing "
                        "after phase 0. Leave the setting out."
                    )
        rehearsal.check_batches(self.model_level.batch_size)
        for name in rehearsal.of_memory:
            if method.trains_on_old_data:
                raise checks.UsageError(
                    f"Rehearsal.{name} = {getattr(rehearsal, name)!r}: method {method.name!r} trains on all images "
                    "again and leaves exemplars out. Leave the setting out."
                )
            # New images over the new classes alone are the original LwF's loss, which has no memory.
            if not self.memory.keeps and name != "separated_softmax":
                raise checks.UsageError(
                    f"Rehearsal.{name} = {getattr(rehearsal, name)!r}: ExemplarMemory.per_class = 0 keeps no memory to "
                    "use. Leave the setting out, or keep exemplars."
                )
        if rehearsal.shifts_logits and not method.adjusts_logits:
            name = "separated_softmax" if rehearsal.separated_softmax else "logit_adjustment"
            raise checks.UsageError(
                f"Rehearsal.{name} = {getattr(rehearsal, name)!r}: the loss of method {method.name!r} is no softmax of "
                "adjusted logits. Leave the setting out, or use another method or loss."
            )

    def _check_soft_targets(self) -> None:
        """Raises UsageError if fine-tuning cannot distil as it says."""
        setting = f"BalancedFinetune.distil_from = {self.finetuning.distil_from!r}"
        if self.finetuning.distil_from == "none":
            return
        if not self.finetuning.applies_to(1, self.method.finetunes):
            raise checks.UsageError(f"{setting}: nothing is fine-tuned. Set BalancedFinetune.enabled = True.")
        if self.method.distils_in_finetuning:
            raise checks.UsageError(f"{setting}: method {self.method.name!r} distils there by itself. Leave it out.")
        if not self.model_level.distillation:
            raise checks.UsageError(f"{setting}: ModelLevel.distillation = False rules it out. Choose one of the two.")

    def check_source(self, horizontal_flip: bool, image_shape: tuple[int, int, int] | None) -> None:
        """Checks the settings against what is known of images before any is there.

        Args:
          horizontal_flip: whether a mirrored image still shows its class.
          image_shape: `(H, W, C)`; None if nobody knows yet.

        Raises:
          UsageError: the network or the memory cannot take such images.
        """
        self.exemplar_level.check_mirrored(horizontal_flip)
        if image_shape is not None:
            self.network.check_image_shape(image_shape)
            self.memory.check_image_shape(image_shape)

    def check_arrival(
        self, counts: Sequence[int], num_known: int, num_new: int, num_replicas: int, others: Sequence[int] = ()
    ) -> None:
        """Checks the settings against images that have come, before anything is trained on them.

        Args:
          counts: images of each class that comes, its exemplars among them if it is known.
          num_known: classes that are known already.
          num_new: classes among those that come that are not.
          num_replicas: devices that share each batch.
          others: exemplars of each known class of which no images come; none by default.

        Raises:
          UsageError: these images cannot be learned as the settings say.
        """
        memory, level = self.memory, self.exemplar_level
        images_per_epoch(sum(counts) + sum(others), self.model_level.batch_size, num_replicas)
        self._check_devices(num_replicas)
        if num_known:
            self.rehearsal.check_new_classes(num_new)
        if memory.learns and level.objective == "next_phase" and num_known == 0:
            self.next_phase.check_classes(smallest_chunk(num_new, level.classes_per_chunk))
        if not memory.keeps:
            return
        memory.check_slot(min(counts))
        if memory.counts_bytes:  # then `check_first_images` does what can be done
            return
        kept = memory.count(num_known + num_new)
        memory.check_leaves_some(kept, num_known + num_new)
        self.method.check(kept * memory.images_per_slot, self.head_name)
        chosen = [min(kept, count // memory.images_per_slot) * memory.images_per_slot for count in counts]
        if memory.learns:
            level.check_shared(chosen, num_replicas)
        if memory.adjust:
            level.check_parts_shared([count // memory.images_per_slot for count in others], memory, num_replicas)
        if self.finetuning.applies_to(1 if num_known else 0, self.method.finetunes):
            left = sum(min(each, kept * memory.images_per_slot) for each in others)
            images_per_epoch(sum(chosen) + left, self.finetuning.batch_size, num_replicas)

    def check_plan(self, plan: PhasePlan, num_replicas: int) -> None:
        """Checks the settings against phases that are planned, before the first is trained.

        Args:
          plan: the phases.
          num_replicas: devices that share each batch.

        Raises:
          UsageError: some phase could not be trained as configured.
        """
        memory, level, sizes = self.memory, self.exemplar_level, plan.phase_sizes
        memory.check_fits(sizes, plan.class_sizes, level.num_parts)
        if not memory.counts_bytes:
            # What the last phase leaves is trained on by no further one.
            fewest = memory.count(sum(sizes[:-1]) or sizes[0]) * memory.images_per_slot
            self.method.check(fewest, self.head_name)
        self._check_devices(num_replicas)
        if memory.learns and level.objective == "next_phase":
            self._check_first_next_phase(sizes[0])
        if self.method.num_units is not None and sizes[0] < 2:
            raise checks.UsageError(
                f"Method {self.method.name!r} trains its network in phase 0 alone, and there is one class there. "
                "Give phase 0 two classes or more (Protocol.initial_share, sizes or classes)."
            )
        known = 0
        for phase, new in enumerate(sizes):
            images = sum(plan.class_sizes[known : known + new])
            images_per_epoch(images, self.model_level.batch_size, num_replicas)
            self._check_exemplars(phase, known, new, num_replicas)
            if known:
                self.rehearsal.check_new_classes(new)
            known += new

    def check_first_images(self, data: LabelledImages, names: Sequence[str], num_classes: int, later: bool) -> None:
        """Checks a budget of bytes, of which only images tell how many exemplars it is; looks at a few of each class.

        Args:
          data: images with positions in `names`.
          names: of classes.
          num_classes: that will share the memory in the end, as far as is known.
          later: whether phases follow, so that exemplars are adjusted.

        Raises:
          UsageError: the budget leaves too few exemplars of a class.
        """
        from mnemonics_tf.memory.budget import check_first_images  # it needs TensorFlow, and settings do not

        if not self.memory.counts_bytes:
            return
        count = check_first_images(self.memory, data, names, num_classes, self.soft_labels(num_classes))
        self.method.check(count * self.memory.images_per_slot, self.head_name)
        if later:
            self.memory.check_parts(count, self.exemplar_level.num_parts)

    def _check_first_next_phase(self, num_classes: int) -> None:
        """Raises UsageError if phase 0, which has no old exemplars beside its own, has too few classes together."""
        fewest = smallest_chunk(num_classes, self.exemplar_level.classes_per_chunk)
        self.next_phase.check_classes(fewest)
        if fewest < 2:
            chunks = f" in a chunk (ExemplarLevel.classes_per_chunk = {self.exemplar_level.classes_per_chunk})"
            raise checks.UsageError(
                f"ExemplarLevel.objective = 'next_phase': phase 0 has one class{chunks if num_classes > 1 else ''}, "
                "and one plays a new and another an old one. Give it two classes or more, or take the objective "
                "'matching'."
            )

    def _check_devices(self, num_replicas: int) -> None:
        """Raises UsageError if the devices cannot share the batches of the exemplar level."""
        self.model_level.check_devices(num_replicas)
        self.exemplar_level.check_devices(num_replicas)
        by_temporary_model = self.memory.learns and self.exemplar_level.objective == "temporary_model"
        if by_temporary_model or self.memory.adjust:
            self.exemplar_level.check_moments(num_replicas)

    def _check_exemplars(self, phase: int, known: int, new: int, num_replicas: int) -> None:
        """Raises UsageError for a batch of exemplars of a phase that is too small to be shared by the devices."""
        level, memory = self.exemplar_level, self.memory
        if not memory.keeps or memory.counts_bytes:
            return
        if known and memory.adjust:
            level.check_parts_shared([memory.count(known)] * known, memory, num_replicas)
        kept = memory.count(known + new) * memory.images_per_slot
        if memory.learns:
            level.check_shared([kept] * new, num_replicas)
        if self.finetuning.applies_to(phase, self.method.finetunes):
            images_per_epoch(kept * (known + new), self.finetuning.batch_size, num_replicas)
        if self.probe.enabled:
            # The probe's batches are the smallest of a run.
            images_per_epoch(kept * new, self.probe.batch_size, num_replicas)
