"""A whole run: all phases, resumed where an earlier process left off."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import gin

from mnemonics_tf import __version__, checks, runtime
from mnemonics_tf.data.class_order import Protocol
from mnemonics_tf.data.pipeline import Augmentation, images_per_epoch
from mnemonics_tf.data.stream import ClassStream
from mnemonics_tf.data.types import Dataset, PixelRange
from mnemonics_tf.evaluation import metrics
from mnemonics_tf.evaluation.classifiers import CLASSIFIERS
from mnemonics_tf.evaluation.probe import Probe
from mnemonics_tf.memory.budget import ExemplarMemory
from mnemonics_tf.memory.optimising.optimiser import smallest_chunk
from mnemonics_tf.memory.optimising.settings import ExemplarLevel
from mnemonics_tf.methods.base import Method
from mnemonics_tf.models.classifier import ClassifierFactory
from mnemonics_tf.models.heads import HEADS
from mnemonics_tf.models.resnet import ResNet
from mnemonics_tf.phase import PhaseRunner
from mnemonics_tf.run.directory import RunDirectory
from mnemonics_tf.run.initial_phases import InitialPhases
from mnemonics_tf.system import devices, seeds
from mnemonics_tf.system.tracking import Tracker
from mnemonics_tf.training.balanced_finetune import BalancedFinetune
from mnemonics_tf.training.loop import Trainer
from mnemonics_tf.training.model_level import ModelLevel

SCHEMA_VERSION = 2


@gin.configurable
@dataclasses.dataclass(frozen=True)
class Experiment:
    """What a run consists of. Each part is configured under its own name.

    Attributes:
      dataset: loads the data: `@digits`, `@tfds` or `@folder`.
      method: the base method, such as `@lucir`.
      head: `cosine`, `linear` or `proxies`; None for the method's own.
      classifier: what is reported and served: `cnn` (the head) or `nme` (the nearest mean of exemplars); None for what
        the method predicts by.
      seed: of training (initial weights, batches, random exemplars); the class order has its own.
      deterministic: the same bits in every run on the same machine, at some cost in speed on GPUs.
    """

    # None is refused below, with a better message than gin's own.
    dataset: Callable[[], Dataset] = None  # type: ignore[assignment]
    method: Callable[[], Method] = None  # type: ignore[assignment]
    head: str | None = None
    classifier: str | None = None
    seed: int = 0
    deterministic: bool = True

    def __post_init__(self):
        checks.check_non_negative_integer(**{"Experiment.seed": self.seed})
        for name, example in (("dataset", "@digits"), ("method", "@lucir")):
            value = getattr(self, name)
            if not callable(value):
                raise checks.UsageError(
                    f"Experiment.{name} is {_described(value)}: expected a reference such as {example}, without "
                    "parentheses."
                )
        checks.check_bool(**{"Experiment.deterministic": self.deterministic})
        if self.head is not None:
            checks.check_choice("Experiment.head", self.head, HEADS)
        if self.classifier is not None:
            checks.check_choice("Experiment.classifier", self.classifier, CLASSIFIERS)

    def load_dataset(self) -> Dataset:
        """The data. Raises UsageError if the reference is to something else."""
        return _checked("dataset", self.dataset(), Dataset)

    def build_method(self) -> Method:
        """The base method. Raises UsageError if the reference is to something else."""
        return _checked("method", self.method(), Method)


_T = TypeVar("_T")


def _checked(name: str, value: Any, expected: type[_T]) -> _T:
    if not isinstance(value, expected):
        raise checks.UsageError(
            f"Experiment.{name} refers to something that makes {_described(value)}: expected a {name}."
        )
    return value


def _described(value: Any) -> str:
    """A value in few words, whatever it is."""
    return repr(value) if value is None or isinstance(value, str | int | float) else f"a {type(value).__name__}"


class Run:
    """An experiment in a folder. Creating it checks everything and changes nothing on disk.

    Args:
      output_dir: the run's folder.
      initial_phases_dir: folder of trained initial phases that runs share; None to share none.
      describe: returns the resolved configuration; called once every part has been built.

    Raises:
      UsageError: something cannot be done as configured.
    """

    def __init__(self, output_dir: str, describe: Callable[[], str], initial_phases_dir: str | None = None):
        experiment = Experiment()
        self._experiment = experiment
        self._method = experiment.build_method()
        self._head = experiment.head or self._method.head
        self._classifier = experiment.classifier or self._method.primary_classifier
        self._budget = ExemplarMemory()
        self._method.check_keeps_exemplars(self._budget.keeps)
        self._exemplar_level = ExemplarLevel()
        self._model_level = ModelLevel()
        self._finetuning = BalancedFinetune()
        self._probe = Probe()
        self._protocol, network = Protocol(), ResNet()
        # With several workers, nothing may be computed before they have met.
        self._strategy = devices.Devices().create_strategy()
        if experiment.deterministic:
            seeds.make_deterministic()
        self._stream = ClassStream(self._load_dataset(), self._protocol)
        class_sizes = self._stream.class_sizes.tolist()
        self._budget.check_fits(self._stream.phase_sizes, class_sizes, self._exemplar_level.num_parts)
        dataset = self._stream.dataset
        self._check_method()
        self._factory = ClassifierFactory(
            network,
            dataset.image_shape,
            self._model_level.scale_form,
            self._head,
            self._method.corrects_bias,
            self._method.tells_maps,
        )
        network.check_image_shape(dataset.image_shape)
        self._budget.check_image_shape(dataset.image_shape)
        if self._stream.streamed:
            self._budget.check_stored()
        self._check_exemplar_level()
        self._config = describe()
        self.directory = RunDirectory(output_dir)
        self._initial_phases_dir = initial_phases_dir
        if initial_phases_dir and runtime.num_workers(self._strategy) > 1:
            raise checks.UsageError(
                "--initial_phases_dir: trained initial phases are shared by runs of one process each, and this run has "
                f"{runtime.num_workers(self._strategy)} workers. Leave it out."
            )

    @property
    def num_phases(self) -> int:
        """N + 1."""
        return self._stream.num_phases

    def run(self) -> dict[str, Any]:
        """Runs the phases that are not complete yet.

        Returns:
          The content of `results.json`.

        Raises:
          UsageError: the folder cannot be used, or a saved phase is damaged.
          DivergedError: a loss became NaN; complete phases stay.
        """
        shared = InitialPhases(self._initial_phases_dir) if self._initial_phases_dir else None
        with runtime.explaining_lost_workers(self._strategy):
            return self._run(shared)

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the run's files: it works alone, or is the first of several workers."""
        return runtime.is_chief(self._strategy)

    def _run(self, shared: InitialPhases | None) -> dict[str, Any]:
        complete = self._open()
        for phase in range(complete):
            self.directory.verify_phase(phase)
        phases = [self.directory.read_metrics(phase) for phase in range(complete)]
        if complete < self.num_phases:
            self._recall_data()
            runner = self._runner(shared)
            memory = runner.restore(complete - 1) if complete else None
            for index in range(complete, self.num_phases):
                memory, result = runner.run(index, memory)
                phases.append(dataclasses.asdict(result))
                self._write(phases)
        self._write(phases)
        # A worker that left before the first has written everything would be missed if that one had to start again.
        runtime.barrier(self._strategy)
        return self._results(phases)

    def _load_dataset(self) -> Dataset:
        """The data: the first worker prepares them, if that is still to do, and then the others find them."""
        with runtime.explaining_lost_workers(self._strategy):
            if not self.is_chief:
                runtime.barrier(self._strategy)
            dataset = self._experiment.load_dataset()
            if self.is_chief:
                runtime.barrier(self._strategy)
            return dataset

    def _open(self) -> int:
        """Opens the folder on all workers. How many phases are complete."""
        if self.is_chief:
            self.directory.open(self._config)
        runtime.barrier(self._strategy)
        if not self.is_chief:
            self.directory.check_shared(self._config)
        complete = self.directory.num_complete_phases()
        if not runtime.is_common(self._strategy, complete):
            raise checks.UsageError(
                f"--output_dir = {self.directory.path}: this worker sees {complete} complete phases there, others see "
                "another number. Name a folder that all workers share."
            )
        return complete

    def _recall_data(self) -> None:
        """Takes from an earlier process what it has found out about the data, or notes it for later ones."""
        stream = self._stream
        classes = {
            "class_names": list(stream.dataset.class_names),
            "class_order": stream.class_order.tolist(),
            "phase_sizes": list(stream.phase_sizes),
        }
        noted = self.directory.read_data(classes)
        if noted is not None:
            stream.check_same_images(noted.get("images", {}), self.directory.num_complete_phases())
            stream.pixel_range = PixelRange(**{name: tuple(values) for name, values in noted["pixel_range"].items()})
        elif self.is_chief:
            noted = {**classes, "images": stream.identity(), "pixel_range": dataclasses.asdict(stream.pixel_range)}
            self.directory.write_data(noted)

    def _write(self, phases: list[dict[str, Any]]) -> None:
        if self.is_chief:
            self.directory.write_results(self._results(phases))

    def _check_method(self) -> None:
        budget, sizes = self._budget, self._stream.phase_sizes
        # What the last phase leaves is trained on by no further one.
        fewest = budget.count(sum(sizes[:-1]) or sizes[0]) * budget.low_resolution**2
        self._method.check(fewest, self._head)
        if self._exemplar_level.engine == "prototype" and self._head == "linear":
            raise checks.UsageError(
                "ExemplarLevel.engine = 'prototype': it compares cosines at the scale that a head has learned, and a "
                "linear head has none. Use another engine, or Experiment.head = 'cosine'."
            )
        if budget.keeps:
            return
        if self._finetuning.enabled:
            raise checks.UsageError(
                "ExemplarMemory.per_class = 0: balanced fine-tuning has nothing to train on. Set "
                "BalancedFinetune.enabled = False."
            )
        if self._classifier == "nme":
            raise checks.UsageError(
                "ExemplarMemory.per_class = 0: there are no means of exemplars to predict by. Set "
                "Experiment.classifier = 'cnn'."
            )

    def _check_exemplar_level(self) -> None:
        level, replicas = self._exemplar_level, self._strategy.num_replicas_in_sync
        level.check_mirrored(self._stream.dataset.horizontal_flip)
        level.check_devices(replicas)
        self._check_batches(replicas)
        if level.learn_labels and not (self._budget.learns and self._finetuning.enabled):
            raise checks.UsageError(
                "ExemplarLevel.learn_labels = True: only the balanced fine-tuning uses soft labels, and needs them for "
                "all exemplars. Set ExemplarMemory.strategy = 'mnemonics' and BalancedFinetune.enabled = True."
            )
        if self._probe.enabled and self._budget.keeps:
            num_classes = 0
            for new_classes in self._stream.phase_sizes:
                num_classes += new_classes
                images = self._budget.count(num_classes) * new_classes * self._budget.low_resolution**2
                # Raises if the devices cannot share so few; the probe's batches are the smallest of a run.
                images_per_epoch(images, self._probe.batch_size, replicas)

    def _check_batches(self, replicas: int) -> None:
        """Raises UsageError for a batch of any phase that is too small to be shared by the devices."""
        level, budget, known = self._exemplar_level, self._budget, 0
        for new in self._stream.phase_sizes:
            images = int(self._stream.class_sizes[known : known + new].sum())
            images_per_epoch(images, self._model_level.batch_size, replicas)
            if budget.keeps and known and budget.adjust:
                part = budget.count(known) // level.num_parts * smallest_chunk(known, level.classes_per_chunk)
                level.check_shared(part * budget.low_resolution**2, replicas)
            known += new
            if budget.learns:
                chunk = budget.count(known) * smallest_chunk(new, level.classes_per_chunk)
                level.check_shared(chunk * budget.low_resolution**2, replicas)
            if budget.keeps and self._finetuning.enabled:
                kept = budget.count(known) * known * budget.low_resolution**2
                images_per_epoch(kept, self._finetuning.batch_size, replicas)

    def _runner(self, initial_phases: InitialPhases | None) -> PhaseRunner:
        dataset = self._stream.dataset
        trainer = Trainer(
            self._strategy,
            self._stream.pixel_range,
            Augmentation(dataset.crop_padding, dataset.horizontal_flip, dataset.resized_crop),
            Tracker(self.directory.tensorboard_dir if self.is_chief else None),
        )
        return PhaseRunner(
            stream=self._stream,
            factory=self._factory,
            method=self._method,
            budget=self._budget,
            model_level=self._model_level,
            exemplar_level=self._exemplar_level,
            finetuning=self._finetuning,
            probe=self._probe,
            trainer=trainer,
            directory=self.directory,
            classifier=self._classifier,
            initial_phases=initial_phases,
            deterministic=self._experiment.deterministic,
            seed=self._experiment.seed,
        )

    def _results(self, phases: list[dict[str, Any]]) -> dict[str, Any]:
        names = phases[0]["accuracy"]
        return {
            "schema_version": SCHEMA_VERSION,
            "package_version": __version__,
            "dataset": self._stream.dataset.name,
            "method": self._method.name,
            "head": self._head,
            "exemplars": self._budget.strategy if self._budget.keeps else "none",
            "adjust_exemplars": self._budget.adjust,
            "budget": self._budget.mode,
            "discard": self._budget.discard,
            "weight_transfer": self._model_level.weight_transfer,
            "balanced_finetune": self._finetuning.enabled,
            "distillation": self._model_level.distillation,
            "seed": self._experiment.seed,
            "order_seed": self._protocol.order_seed,
            "num_phases": self.num_phases - 1,
            "phase_sizes": self._stream.phase_sizes,
            "class_order": self._stream.class_order.tolist(),
            "primary_classifier": self._classifier,
            "phases": phases,
            "average_accuracy": {
                name: metrics.average_accuracy([phase["accuracy"][name] for phase in phases]) for name in names
            },
            "forgetting": {
                name: metrics.forgetting([phase["initial_classes_accuracy"][name] for phase in phases])
                for name in names
            },
        }
