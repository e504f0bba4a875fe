"""What a run consists of, as a configuration says it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from mnemonics_tf import checks
from mnemonics_tf.data.class_order import Protocol
from mnemonics_tf.data.sources import Source
from mnemonics_tf.data.types import Dataset
from mnemonics_tf.learner.settings import PhasePlan, Settings
from mnemonics_tf.methods.base import Method
from mnemonics_tf.models.backbone import Backbone
from mnemonics_tf.models.resnet import ResNet
from mnemonics_tf.system import seeds
from mnemonics_tf.system.devices import Devices

if TYPE_CHECKING:
    from mnemonics_tf.data.stream import ClassStream

_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True)
class ExperimentSettings:
    """The choices of a run that no other setting makes. Their name in configurations is `Experiment`.

    Attributes:
      dataset: where the data come from: `@digits`, `@tfds` or `@folder`, or a function of one's own that returns a
        `Dataset`.
      method: the base method, such as `@lucir`.
      network: a function of one's own that returns a Keras model, or a `Backbone` of one; it takes the place of
        `ResNet`, which None, the default, leaves.
      head: `cosine`, `linear` or `proxies`; None for the method's own.
      classifier: what is reported and served: `cnn` (the head) or `nme` (the nearest mean of exemplars); None for what
        the method predicts by.
      seed: of training (initial weights, batches, random exemplars); the class order has its own.
      deterministic: the same bits in every run on the same machine, at some cost in speed on GPUs.
      snapshot_seconds: how often what a long step has come to is kept, in seconds, so that a run that is killed goes on
        from there; 0 keeps the trained network alone, once it is trained. 60 by default: of a minute, a snapshot takes
        little. Where it would take more than 2.5 % of the time, snapshots are fewer. A run may be resumed with another
        value.
    """

    # None is refused below, with a better message than gin's own.
    dataset: Callable[[], Source | Dataset] = None  # type: ignore[assignment]
    method: Callable[[], Method] = None  # type: ignore[assignment]
    network: Callable[[], Any] | None = None
    head: str | None = None
    classifier: str | None = None
    seed: int = 0
    deterministic: bool = True
    snapshot_seconds: float = 60.0

    def __post_init__(self):
        checks.check_non_negative(**{"Experiment.snapshot_seconds": self.snapshot_seconds})
        if self.network is not None and not callable(self.network):
            raise checks.UsageError(
                f"Experiment.network is {_described(self.network)}: expected a reference such as @mine, to a function "
                "that returns a Keras model, without parentheses. Settings of ResNet are bound by themselves."
            )
        for name, example in (("dataset", "@digits"), ("method", "@lucir")):
            value = getattr(self, name)
            if not callable(value):
                raise checks.UsageError(
                    f"Experiment.{name} is {_described(value)}: expected a reference such as {example}, without "
                    "parentheses."
                )

    def build_source(self) -> Source | None:
        """The source of the data, its settings checked; None if only loading the data can tell anything of them.

        Raises:
          UsageError: a setting of the source cannot be what it is.
        """
        # A class is settings; a function may take hours to return.
        return self.dataset() if isinstance(self.dataset, type) and hasattr(self.dataset, "load") else None

    def load_dataset(self) -> Dataset:
        """The data. Raises UsageError if the reference is to something else."""
        made = self.dataset()
        return _checked("dataset", made.load() if hasattr(made, "load") else made, Dataset)

    def build_network(self) -> ResNet | Backbone | None:
        """The network that `network` makes, its random weights by the seed; None if there is none.

        Raises:
          UsageError: it makes something else, or a model that cannot be a backbone.
        """
        if self.network is None:
            return None
        with seeds.keeping_global_generators():
            seeds.seed_initial_weights(seeds.stage_seed(self.seed, "network"))
            made = self.network()
        if isinstance(made, ResNet | Backbone):
            return made
        if not hasattr(made, "layers"):
            raise checks.UsageError(
                f"Experiment.network refers to something that makes {_described(made)}: expected a Keras model, or a "
                "Backbone of one."
            )
        return Backbone(made)

    def build_method(self) -> Method:
        """The base method. Raises UsageError if the reference is to something else."""
        return _checked("method", self.method(), Method)


def _checked(name: str, value: Any, expected: type[_T]) -> _T:
    if not isinstance(value, expected):
        raise checks.UsageError(
            f"Experiment.{name} refers to something that makes {_described(value)}: expected a {name}."
        )
    return value


def _described(value: Any) -> str:
    """A value in few words, whatever it is."""
    return repr(value) if value is None or isinstance(value, str | int | float) else f"a {type(value).__name__}"


@dataclasses.dataclass(frozen=True)
class Configuration:
    """All that a run is made from.

    Attributes:
      settings: of the learner.
      protocol: which classes arrive in which phase.
      devices: what it is computed on.
      source: of the data; None if only loading them can tell anything of them.
      load_dataset: reads the data.
      text: every setting with its value, as it is kept in the run's folder. Complete once the data are loaded.
      snapshot_seconds: between two snapshots of a long step.
    """

    settings: Settings
    protocol: Protocol
    devices: Devices
    source: Source | None
    load_dataset: Callable[[], Dataset]
    text: Callable[[], str]
    snapshot_seconds: float = 60.0

    def check(self) -> None:
        """Checks all settings against one another. Needs no data, no device and no file.

        Raises:
          UsageError: two settings contradict each other.
        """
        self.settings.check(self.protocol.has_later_phases)
        if self.source is not None:
            self.settings.check_source(self.source.horizontal_flip, self.source.known_shape)
            if getattr(self.source, "in_memory", None) is False:  # of what the size decides data tell
                self.settings.memory.check_place(streamed=True)

    @property
    def setup(self) -> dict[str, Any]:
        """What the run is, as the fields of `Results` say it that follow from settings alone."""
        settings = self.settings
        return {
            "method": settings.method.name,
            "head": settings.head_name,
            "exemplars": settings.memory.strategy if settings.memory.keeps else "none",
            "adjust_exemplars": settings.memory.adjust,
            "budget": settings.memory.mode,
            "discard": settings.memory.discard,
            "weight_transfer": settings.model_level.weight_transfer,
            "balanced_finetune": settings.finetuning.enabled,
            "distillation": settings.model_level.distillation,
            "seed": settings.seed,
            "order_seed": self.protocol.order_seed,
            "primary_classifier": settings.primary_classifier,
        }


def check_data(settings: Settings, stream: ClassStream, num_replicas: int) -> None:
    """Checks settings against the data of a run, before a folder is opened or anything is trained.

    Args:
      settings: checked against one another already.
      stream: the data, dealt out to phases.
      num_replicas: that share each batch.

    Raises:
      UsageError: the images, the classes or their numbers do not go with the settings.
    """
    from mnemonics_tf.learner.admission import check_backbone  # it needs TensorFlow, and settings do not

    names = stream.class_names
    traits = stream.dataset.traits
    settings.check_source(traits.horizontal_flip, traits.image_shape)
    settings.memory.check_place(stream.streamed)
    settings.check_plan(PhasePlan(stream.phase_sizes, stream.class_sizes.tolist()), num_replicas)
    check_backbone(settings, traits)
    settings.check_first_images(stream.train, names, len(names), later=stream.num_phases > 1)
