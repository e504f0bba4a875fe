"""One phase of Algorithm 1."""

from __future__ import annotations

import dataclasses
import os
import zlib

import numpy as np

from mnemonics_tf import checks, results, runtime
from mnemonics_tf.data.decoding import explaining_lost_files
from mnemonics_tf.data.stream import ClassStream
from mnemonics_tf.data.types import LabelledImages, Phase
from mnemonics_tf.evaluation import classifiers, metrics
from mnemonics_tf.evaluation.probe import Probe, probe_exemplars
from mnemonics_tf.memory.budget import ExemplarMemory, load_exemplars, save_exemplars
from mnemonics_tf.memory.optimising.optimiser import ExemplarOptimiser
from mnemonics_tf.memory.optimising.settings import ExemplarLevel
from mnemonics_tf.memory.pixel_file import PixelFile, as_pixels
from mnemonics_tf.methods.base import Method
from mnemonics_tf.models.classifier import Classifier, ClassifierFactory
from mnemonics_tf.models.predictor import Predictor
from mnemonics_tf.models.weights import save_weights
from mnemonics_tf.results import PhaseResult
from mnemonics_tf.run.directory import RunDirectory
from mnemonics_tf.run.initial_phases import InitialPhases, describe_initial_phase
from mnemonics_tf.run.pictures import confusion_image, exemplar_grid
from mnemonics_tf.serving.export import export_saved_model
from mnemonics_tf.system import seeds
from mnemonics_tf.training.balanced_finetune import BalancedFinetune, finetune_balanced, method_losses_of
from mnemonics_tf.training.loop import Trainer
from mnemonics_tf.training.model_level import ModelLevel, train_model


@dataclasses.dataclass(frozen=True)
class Memory:
    """What one phase hands to the next.

    Attributes:
      model: Θ_i.
      predictor: runs it.
      exemplars: E_{0:i}, as they are stored.
    """

    model: Classifier
    predictor: Predictor
    exemplars: LabelledImages


@dataclasses.dataclass(frozen=True)
class PhaseRunner:
    """Runs phases: all that stays the same from one to the next.

    Attributes:
      stream: the data.
      factory: builds networks.
      method: the base method.
      budget: which exemplars are kept.
      model_level: settings of the model level.
      exemplar_level: settings of the exemplar level.
      finetuning: settings of the balanced fine-tuning.
      probe: how exemplars are judged.
      trainer: trains networks.
      directory: where phases are saved.
      classifier: what the SavedModel predicts by: `cnn` or `nme`.
      initial_phases: trained networks of phase 0 that runs share, or None.
      seed: of the run.
      deterministic: whether operations are.
    """

    stream: ClassStream
    factory: ClassifierFactory
    method: Method
    budget: ExemplarMemory
    model_level: ModelLevel
    exemplar_level: ExemplarLevel
    finetuning: BalancedFinetune
    probe: Probe
    trainer: Trainer
    directory: RunDirectory
    classifier: str
    initial_phases: InitialPhases | None
    seed: int
    deterministic: bool

    def run(self, index: int, memory: Memory | None) -> tuple[Memory, PhaseResult]:
        """Phase `index` of Algorithm 1: learns its classes and saves the result.

        Args:
          index: 0 for the initial phase.
          memory: Θ_{i-1} and E_{0:i-1}; None in phase 0.

        Returns:
          Θ_i with E_{0:i}, and what they reach.
        """
        tracker = self.trainer.tracker
        tracker.start_phase(index, self.stream.num_phases)
        with tracker.stage("check_images"):
            phase = self._arriving(index)
        worker = runtime.worker_index(self.trainer.strategy)
        with self.directory.scratch(worker) as scratch, explaining_lost_files():
            return self._run_steps(phase, memory, self._waiting_room(scratch))

    def _run_steps(self, phase: Phase, memory: Memory | None, file: PixelFile | None) -> tuple[Memory, PhaseResult]:
        """The eight steps, in the paper's order."""
        tracker = self.trainer.tracker
        with tracker.stage("train_model"):
            model, predictor, reused = self._train_model(phase, memory)
        optimiser = ExemplarOptimiser(
            model,
            self.stream.pixel_range,
            self.exemplar_level,
            tracker,
            self.budget.codec,
            self.trainer.strategy,
            file,
        )
        with tracker.stage("select_exemplars"):
            new = self._select_exemplars(phase, predictor)
        with tracker.stage("learn_exemplars"):
            new = self._learn_exemplars(phase, new, optimiser)
        with tracker.stage("adjust_exemplars"):
            old = self._adjust_exemplars(phase, memory, optimiser)
        with tracker.stage("enforce_budget"):
            exemplars = self._enforce_budget(phase, old, new, file)
        with tracker.stage("probe_exemplars"):
            probed = self._probe_exemplars(phase, model, exemplars)
        with tracker.stage("finetune_balanced"):
            self._finetune_balanced(phase, model, memory, exemplars)
        with tracker.stage("evaluate"):
            predictions = self._predict(phase, predictor, exemplars)
        memory = Memory(model, predictor, exemplars)
        result = self._result(phase, exemplars, predictions, probed, reused)
        if self.is_chief:
            result = self._save(phase, memory, predictions, result)
        runtime.barrier(self.trainer.strategy)
        if self.stream.streamed:
            memory = dataclasses.replace(memory, exemplars=self._saved_exemplars(phase.index))
        return memory, result

    def restore(self, index: int) -> Memory:
        """Θ_i and E_{0:i} of a saved phase."""
        folder = self.directory.phase_dir(index)
        sizes = self.stream.phase_sizes
        with self.trainer.strategy.scope():
            model = self.factory.build(sum(sizes[:index]), sizes[index])
        model.load_weights(os.path.join(folder, "checkpoint", "model.weights.h5"))
        model.train_all()
        predictor = self.trainer.predictor(model)
        return Memory(model, predictor, self._saved_exemplars(index))

    @property
    def is_chief(self) -> bool:
        """Whether this process saves what the workers have computed together."""
        return runtime.is_chief(self.trainer.strategy)

    def _arriving(self, index: int) -> Phase:
        """The images of the phase's classes, those that can be read."""
        phase = self.stream.phase(index, with_old_data=self.method.trains_on_old_data)
        self.budget.check_readable(phase.train, self.stream.class_names)
        test = self.stream.test_data(phase.num_classes)
        # Folders may lie elsewhere on other machines: the last two names of a path tell the image.
        skipped = sorted(os.sep.join(place.split(os.sep)[-2:]) for place in self.stream.skipped)
        seen = repr((phase.train.labels.tobytes(), test.labels.tobytes(), skipped)).encode(errors="replace")
        if not runtime.is_common(self.trainer.strategy, zlib.crc32(seen)):
            raise checks.UsageError(
                f"The images of phase {index} that this worker can read are not those that other workers can read. "
                "Give all of them the same data."
            )
        if self.is_chief:
            self.directory.add_skipped(self.stream.skipped)
        return phase

    def _waiting_room(self, scratch: str) -> PixelFile | None:
        """Where exemplars wait until they are saved, if a streamed data set has too many for memory."""
        if not self.stream.streamed:
            return None
        return PixelFile(os.path.join(scratch, "exemplars.pixels"), self.factory.image_shape)

    def _saved_exemplars(self, index: int) -> LabelledImages:
        path = os.path.join(self.directory.phase_dir(index), "exemplars.npz")
        return load_exemplars(path, self.stream.class_order, self.stream.streamed)

    def _train_model(self, phase: Phase, memory: Memory | None) -> tuple[Classifier, Predictor, bool]:
        """Θ_i, what runs it, and whether it is an earlier run's network."""
        if memory is None and self.initial_phases is not None:
            return self._shared_initial_model(phase, self.initial_phases)
        return *self._train_own_model(phase, memory), False

    def _train_own_model(self, phase: Phase, memory: Memory | None) -> tuple[Classifier, Predictor]:
        seeds.seed_initial_weights(seeds.stage_seed(self.seed, phase.index, "initial_weights"))
        return train_model(
            memory.predictor if memory else None,
            phase,
            self.budget.decoded(memory.exemplars) if memory and self.budget.keeps else None,
            self.factory,
            self.method,
            self.model_level,
            self.trainer,
            seeds.stage_seed(self.seed, phase.index, "train_model"),
        )

    def _shared_initial_model(self, phase: Phase, shared: InitialPhases) -> tuple[Classifier, Predictor, bool]:
        description = describe_initial_phase(
            phase.train, self.factory, self.method, self.model_level, self.trainer, self.seed, self.deterministic
        )

        def build() -> Classifier:
            with self.trainer.strategy.scope():
                return self.factory.build(0, phase.num_new_classes)

        model, reused = shared.network(description, build, lambda: self._train_own_model(phase, None)[0])
        model.train_all()
        return model, self.trainer.predictor(model), reused

    def _select_exemplars(self, phase: Phase, predictor: Predictor) -> LabelledImages:
        features = None
        if self.budget.keeps and self.budget.selection == "herding":
            features = predictor.features(phase.train, "select_exemplars")
        count = self.budget.count(phase.num_classes)
        return self.budget.select(phase.train, features, count, self._generator(phase, "select_exemplars"))

    def _learn_exemplars(self, phase: Phase, exemplars: LabelledImages, optimiser: ExemplarOptimiser) -> LabelledImages:
        if not self.budget.learns:
            return exemplars
        learned = optimiser.learn(exemplars, phase.train, self._generator(phase, "learn_exemplars"))
        self._show_exemplars("new", exemplars, learned)
        return learned

    def _adjust_exemplars(
        self, phase: Phase, memory: Memory | None, optimiser: ExemplarOptimiser
    ) -> LabelledImages | None:
        if memory is None or not self.budget.adjust:
            return memory.exemplars if memory else None
        adjusted = optimiser.adjust(memory.exemplars, self._generator(phase, "adjust_exemplars"))
        self._show_exemplars("old", memory.exemplars, adjusted)
        return adjusted

    def _enforce_budget(
        self, phase: Phase, old: LabelledImages | None, new: LabelledImages, file: PixelFile | None
    ) -> LabelledImages:
        new = self.budget.storable(new) if file is None else as_pixels(new, file)
        if old is None:
            return new
        kept = self.budget.shrink(old, phase.num_classes, self._generator(phase, "enforce_budget"))
        return self.budget.storable(kept).join(new)

    def _probe_exemplars(self, phase: Phase, model: Classifier, exemplars: LabelledImages) -> dict[str, float]:
        if not (self.probe.enabled and self.budget.keeps):
            return {}
        return probe_exemplars(
            model,
            self.budget.decoded(exemplars.of_classes(phase.new_classes)),
            self.stream.test_data(phase.num_classes).of_classes(phase.new_classes),
            self.factory,
            self.trainer,
            self.probe,
            seeds.stage_seed(self.seed, phase.index, "probe_exemplars"),
        )

    def _finetune_balanced(
        self, phase: Phase, model: Classifier, memory: Memory | None, exemplars: LabelledImages
    ) -> None:
        if not self.finetuning.applies_to(phase.index, self.method.finetunes):
            return
        teacher = before = None
        if memory is not None and self.method.distils_in_finetuning and self.model_level.distillation:
            teacher = memory.model
            with self.trainer.strategy.scope():
                before = self.factory.copy(model)
        if self.finetuning.trained == "head":
            model.train_head()
        finetune_balanced(
            model,
            method_losses_of(self.method, model, teacher, before, phase.groups),
            self.budget.decoded(exemplars),
            self.finetuning,
            self.trainer,
            seeds.stage_seed(self.seed, phase.index, "finetune_balanced"),
        )
        model.train_all()

    def _predict(self, phase: Phase, predictor: Predictor, exemplars: LabelledImages) -> classifiers.Predictions:
        test = self.stream.test_data(phase.num_classes)
        return classifiers.predict(predictor, test, self.budget.decoded(exemplars), self.stream.dataset.horizontal_flip)

    def _save(
        self, phase: Phase, memory: Memory, predictions: classifiers.Predictions, result: PhaseResult
    ) -> PhaseResult:
        tracker = self.trainer.tracker
        with self.directory.writing_phase(phase.index) as folder:
            with tracker.stage("save"), tracker.progress("save", 3, "artefacts") as bar:
                os.mkdir(os.path.join(folder, "checkpoint"))
                save_weights(memory.model, os.path.join(folder, "checkpoint", "model.weights.h5"))
                bar.update()
                save_exemplars(os.path.join(folder, "exemplars.npz"), memory.exemplars, self.stream.class_order)
                bar.update()
                export_saved_model(
                    os.path.join(folder, "saved_model"),
                    memory.model,
                    self.factory,
                    self.stream.pixel_range,
                    self.stream.class_order[: phase.num_classes].tolist(),
                    self.stream.class_names[: phase.num_classes],
                    predictions.means if self.classifier == "nme" else None,
                )
                bar.update()
            result = dataclasses.replace(result, seconds=dict(tracker.seconds))
            with open(os.path.join(folder, results.METRICS_FILE), "w", encoding="utf-8") as file:
                file.write(results.phase_to_text(result))
        self._show_result(result, predictions)
        return result

    def _result(
        self,
        phase: Phase,
        exemplars: LabelledImages,
        predictions: classifiers.Predictions,
        probed: dict[str, float],
        reused: bool,
    ) -> PhaseResult:
        sizes, labels = phase.groups.sizes, predictions.labels
        groups = {
            name: metrics.group_accuracy(predicted, labels, sizes)
            for name, predicted in predictions.by_classifier.items()
        }
        return PhaseResult(
            phase=phase.index,
            num_classes=phase.num_classes,
            accuracy={
                name: metrics.accuracy(predicted, labels) for name, predicted in predictions.by_classifier.items()
            },
            initial_classes_accuracy={name: group[0] for name, group in groups.items()},
            group_accuracy=groups,
            exemplars_per_class=int(np.bincount(exemplars.labels, minlength=phase.num_classes).min()),
            probe=probed,
            seconds={},  # known once everything is saved
            reused=reused,
        )

    def _show_exemplars(self, which: str, before: LabelledImages, after: LabelledImages) -> None:
        for moment, exemplars in (("before", before), ("after", after)):
            grid = exemplar_grid(self.budget.storable(exemplars))
            self.trainer.tracker.image(f"exemplars/{which}/{moment}", grid)

    def _show_result(self, result: PhaseResult, predictions: classifiers.Predictions) -> None:
        tracker = self.trainer.tracker
        tracker.run_scalars({f"accuracy/{name}": value for name, value in result.accuracy.items()})
        tracker.run_scalars({f"probe/{name}": value for name, value in result.probe.items()})
        tracker.run_scalars({f"seconds/{name}": value for name, value in result.seconds.items()})
        for name, predicted in predictions.by_classifier.items():
            matrix = metrics.confusion_matrix(predicted, predictions.labels, result.num_classes)
            tracker.image(f"confusion/{name}", confusion_image(matrix))
        tracker.flush()

    def _generator(self, phase: Phase, stage: str) -> np.random.Generator:
        return seeds.generator(self.seed, phase.index, stage)
