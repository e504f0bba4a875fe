"""All settings of a learner, and every check of one against another."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from mnemonics_tf import checks
from mnemonics_tf.data.batches import images_per_epoch
from mnemonics_tf.data.types import ImageTraits
from mnemonics_tf.evaluation.settings import CLASSIFIERS, Probe
from mnemonics_tf.memory.optimising.chunks import smallest_chunk
from mnemonics_tf.memory.optimising.settings import ExemplarLevel
from mnemonics_tf.memory.settings import Memory
from mnemonics_tf.methods.base import Method
from mnemonics_tf.models.choices import HEADS
from mnemonics_tf.models.resnet import ResNet
from mnemonics_tf.training.settings import BalancedFinetune, ModelLevel


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
      network: the backbone.
      memory: which exemplars are kept.
      model_level: how the network of a phase is trained.
      exemplar_level: how exemplars are learned and adjusted.
      finetuning: the balanced fine-tuning after them.
      probe: how exemplars are judged.
      head: `cosine`, `linear` or `proxies`; None for the method's own.
      classifier: what is reported and served: `cnn` (the head) or `nme` (the nearest mean of exemplars); None for what
        the method predicts by.
      seed: of initial weights, batches and random exemplars.
      deterministic: the same bits every time on the same machine, at some cost in speed on GPUs.
    """

    method: Method
    network: ResNet = dataclasses.field(default_factory=ResNet)
    memory: Memory = dataclasses.field(default_factory=Memory)
    model_level: ModelLevel = dataclasses.field(default_factory=ModelLevel)
    exemplar_level: ExemplarLevel = dataclasses.field(default_factory=ExemplarLevel)
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

    @property
    def head_name(self) -> str:
        """The head that the network has."""
        return self.head or self.method.head

    @property
    def primary_classifier(self) -> str:
        """What is reported and served: `cnn` or `nme`."""
        return self.classifier or self.method.primary_classifier

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
        if memory.total is None:
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
        if not memory.keeps:
            self._check_without_exemplars()
        if self.method.num_units is not None and self.model_level.scale_form is not None:
            raise checks.UsageError(
                f"ModelLevel.weight_transfer = {self.model_level.weight_transfer!r}: {self.method.name!r} trains "
                "nothing after phase 0. Set ModelLevel.weight_transfer = 'none'."
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

    def check_images(self, traits: ImageTraits, streamed: bool = False) -> None:
        """Checks the settings against the images that will come.

        Args:
          traits: what images have in common.
          streamed: whether they stay in files.

        Raises:
          UsageError: the network or the memory cannot take such images.
        """
        self.check_source(traits.horizontal_flip, traits.image_shape)
        if streamed:
            self.memory.check_stored()

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

    def check_arrival(self, counts: Sequence[int], num_known: int, num_new: int, num_replicas: int) -> None:
        """Checks the settings against images that have come, before anything is trained on them.

        Args:
          counts: images of each class that comes.
          num_known: classes that are known already.
          num_new: classes among those that come that are not.
          num_replicas: devices that share each batch.

        Raises:
          UsageError: these images cannot be learned as the settings say.
        """
        memory, level = self.memory, self.exemplar_level
        images_per_epoch(sum(counts), self.model_level.batch_size, num_replicas)
        level.check_devices(num_replicas)
        if not memory.keeps:
            return
        kept = memory.count(num_known + num_new)
        memory.check_leaves_some(kept, num_known + num_new)
        self.method.check(kept * memory.images_per_slot, self.head_name)
        if min(counts) < memory.images_per_slot:
            raise checks.UsageError(
                f"ExemplarMemory.low_resolution = {memory.low_resolution}: an exemplar is made of "
                f"{memory.images_per_slot} images, and a class has {min(counts)}. Add images, or lower it."
            )
        fewest = min(kept, min(counts) // memory.images_per_slot) * memory.images_per_slot
        if memory.learns:
            level.check_shared(fewest * smallest_chunk(len(counts), level.classes_per_chunk), num_replicas)
        if self.finetuning.applies_to(1 if num_known else 0, self.method.finetunes):
            images_per_epoch(fewest * len(counts), self.finetuning.batch_size, num_replicas)

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
        # What the last phase leaves is trained on by no further one.
        fewest = memory.count(sum(sizes[:-1]) or sizes[0]) * memory.images_per_slot
        self.method.check(fewest, self.head_name)
        level.check_devices(num_replicas)
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
            known += new

    def _check_exemplars(self, phase: int, known: int, new: int, num_replicas: int) -> None:
        """Raises UsageError for a batch of exemplars of a phase that is too small to be shared by the devices."""
        level, memory = self.exemplar_level, self.memory
        if not memory.keeps:
            return
        if known and memory.adjust:
            part = memory.count(known) // level.num_parts * smallest_chunk(known, level.classes_per_chunk)
            level.check_shared(part * memory.images_per_slot, num_replicas)
        kept = memory.count(known + new) * memory.images_per_slot
        if memory.learns:
            level.check_shared(kept * smallest_chunk(new, level.classes_per_chunk), num_replicas)
        if self.finetuning.applies_to(phase, self.method.finetunes):
            images_per_epoch(kept * (known + new), self.finetuning.batch_size, num_replicas)
        if self.probe.enabled:
            # The probe's batches are the smallest of a run.
            images_per_epoch(kept * new, self.probe.batch_size, num_replicas)
