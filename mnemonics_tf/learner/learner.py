"""A learner that is given classes as they come: `mnemonics_tf.IncrementalLearner`."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import mnemonics_tf
from mnemonics_tf import checks, runtime
from mnemonics_tf.data.types import ImageTraits, LabelledImages, PixelRange
from mnemonics_tf.evaluation.classifiers import nme_logits, predict
from mnemonics_tf.learner import arrivals, display, saving
from mnemonics_tf.learner.answers import (
    Answers,
    Evaluation,
    Learned,
    MemoryView,
    answers_of,
    evaluation_of,
    memory_view,
)
from mnemonics_tf.learner.context import Journal, beginning
from mnemonics_tf.learner.defaults import AUTO, PARTS, Choices
from mnemonics_tf.learner.fitting import check_can_forget, without_classes
from mnemonics_tf.learner.journal import NoJournal
from mnemonics_tf.learner.news import News, news_of
from mnemonics_tf.learner.settings import Settings
from mnemonics_tf.learner.state import LearnerState
from mnemonics_tf.learner.workshop import Workshop
from mnemonics_tf.memory.settings import Memory
from mnemonics_tf.methods.base import Method
from mnemonics_tf.models.backbone import Backbone
from mnemonics_tf.models.resnet import ResNet
from mnemonics_tf.system.devices import Devices
from mnemonics_tf.system.tracking import Tracker


class IncrementalLearner(Workshop):
    """Learns classes as they arrive, without the images of those that came before but for a small memory.

        learner = mnemonics_tf.IncrementalLearner()
        learner.learn("photos/january")                   # a folder with a folder of images for each class
        learner.learn(images, labels, class_names=["heron", "stork"])
        learner.predict(images).names
        learner.save("birds")

    Nothing about later classes has to be known. What is not given is chosen when the first images are seen, by their
    size and number (`mnemonics_tf.learner.defaults`); `learner.settings` then tells all of it.

    Args:
      method: a base method, by its name in `configs/methods` or as an object, such as `LUCIR(margin=0.3)`; `auto` for
        one that suits the memory and the first classes: `analytic`, which keeps no exemplars, or `lucir`.
      backbone: `small`, `resnet8`, `resnet20`, `resnet32`, `resnet18`, a `ResNet`, any Keras model or a `Backbone` of
        one, which says what it expects of its images; None for one that suits the images' size.
      memory: which exemplars are kept; None for 20 a class, learned from herding, or none with `analytic`.
      image_size: side of the square to which images are brought that come from files, or from a `tf.data.Dataset` in
        which they differ in size; None for one that suits the first files. Arrays stay as they are, unless the
        backbone is a Keras model of one size.
      horizontal_flip: whether a mirrored image still shows its class; None for yes if images have three channels:
        those of one channel tend to be letters and digits.
      validation_share: share of each class's images that is held out to measure by, where no validation images are
        given.
      seed: of all that is random.
      devices: what to compute on; None for all GPUs there are, or the CPU.
      settings: further choices by the names of `Settings`: `model_level`, `rehearsal`, `exemplar_level`, `next_phase`,
        `matching`, `finetuning`, `head`, `classifier`, `deterministic` (the same bits on GPUs, too; False here).

    Raises:
      UsageError: no such method or backbone, or settings that contradict each other.
    """

    def __init__(
        self,
        method: str | Method = "lucir",
        backbone: str | ResNet | Backbone | keras.Model | None = None,
        memory: Memory | None = None,
        *,
        image_size: int | None = None,
        horizontal_flip: bool | None = None,
        validation_share: float = 0.1,
        seed: int = 0,
        devices: Devices | None = None,
        **settings: Any,
    ):
        self._choices = Choices.made(method, backbone, memory, image_size, horizontal_flip, seed, settings)
        checks.check_fraction(validation_share=validation_share)
        self._validation_share = validation_share
        if devices is not None and not isinstance(devices, Devices):
            raise checks.UsageError(
                f"devices = {devices!r}: expected a Devices, such as Devices(strategy='one_device')."
            )
        self._devices = devices or Devices()
        self._strategy: tf.distribute.Strategy | None = None
        self._tracker = Tracker()
        self._journal: Journal = NoJournal()
        self._settings: Settings | None = None
        self._traits: ImageTraits | None = None
        self._state: LearnerState | None = None
        self._history: list[Evaluation | None] = []
        self._finished_places: set[str] = set()

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        traits: ImageTraits,
        pixel_range: PixelRange,
        *,
        strategy: tf.distribute.Strategy | None = None,
        devices: Devices | None = None,
        validation_share: float = 0.1,
        tracker: Tracker | None = None,
        journal: Journal | None = None,
    ) -> IncrementalLearner:
        """A learner for whom everything is settled, which knows no class yet.

        Args:
          settings: all of them.
          traits: what all images have in common.
          pixel_range: normalisation of images.
          strategy: what computes; None for one that `devices` make.
          devices: what to compute on; None for all GPUs there are, or the CPU.
          validation_share: of images that are held out, where no validation images are given.
          tracker: shows progress; None shows it on the screen alone.
          journal: where results are put down; None puts down nothing.

        Settings are taken as they are: `Settings.check` and its neighbours tell beforehand what cannot work.
        """
        learner = cls(seed=settings.seed, devices=devices, validation_share=validation_share)
        parts = {name: getattr(settings, name) for name in PARTS}
        learner._choices = Choices(settings.method, settings.network, settings.memory, None, None, settings.seed, parts)
        learner._settings, learner._traits, learner._strategy = settings, traits, strategy
        learner._tracker, learner._journal = tracker or learner._tracker, journal or learner._journal
        learner._state = beginning(settings, traits, pixel_range)
        return learner

    def learn(
        self,
        images: Any,
        labels: Any = None,
        *,
        class_names: Sequence[str] | None = None,
        validation: Any = None,
        progress: str | os.PathLike | None = None,
    ) -> Evaluation | None:
        """Learns new classes, or more images of known ones.

        Until it returns nothing of the learner changes: an error or Ctrl-C leaves it as it was. Images that an earlier
        call was given should not come again: they would be taken for new ones, and some that were learned be measured
        by. In folders `learn_new` tells them.

        Args:
          images: a folder with a folder of images for each class (or with `train` and `test` above them); an array
            `[n, H, W, C]` or `[n, H, W]`, uint8 on the scale 0..255 or floating on the scale 0..1; or a
            `tf.data.Dataset` of `(image, label)`, in batches or not.
          labels: of an array: names of classes, or whole numbers `[n]`.
          class_names: what the numbers stand for: label k is the class `class_names[k]`. None takes a number itself for
            the name of its class.
          validation: images to measure by, as `images`, or `(images, labels)`, in the place of a folder's `test`; None
            takes that, or holds some of the images out.
          progress: the folder in which the learner will be saved. What long steps have come to is put down there every
            minute, and the same call goes on with it if its process was killed; `save` removes it. None keeps nothing.

        Returns:
          How well the classes that came are recognised, among all that are known; None without validation images.

        Raises:
          UsageError: there is nothing to learn from, or something else than was expected. The message says what.
          DivergedError: a loss became NaN.
          ExhaustedError: a step needed more memory than there is.
        """
        intake = self._reader()
        train, test = intake.read(images, labels, class_names)
        if validation is not None:
            test = intake.read_validation(validation, class_names, train)
        elif test is None:
            train, test = arrivals.held_out(train, self._validation_share, self._seed_of("validation"))
        with self._unchanged_if_it_fails():
            self._begin(train)
            arrival = arrivals.arrival_of(train, test, self._ready.classes)
            with self._going_on_in(progress, arrival):
                return self.advance(arrival)

    def what_is_new(self, folder: str | os.PathLike) -> News:
        """What a folder of images holds that `learn_new` would learn. Nothing is learned yet.

        Images are told by the content of their files: one that was seen before is not new wherever it lies now, and
        images that were seen need not be there. Some of those that are new are held out to measure by, as their
        checksums say (see `mnemonics_tf.learner.seen`); where the folder holds `train` and `test`, the latter are.

        Raises:
          UsageError: there is no such folder, it is laid out otherwise, or no image of a new class can be read.
        """
        return news_of(os.fspath(folder), self._reader(), self._seen_images, self._validation_share)

    def expected_seconds(self, news: News, *, epochs: int | None = None) -> float | None:
        """Roughly how long `learn_new` will take, in seconds; None for a network whose size nobody knows."""
        return self._expected_seconds(news, epochs)

    def learn_new(
        self,
        news: News | str | os.PathLike,
        *,
        epochs: int | None = None,
        progress: str | os.PathLike | None = None,
    ) -> Learned:
        """Learns what is new in a folder: new classes, or more images of known ones.

        The classes of an arrival are known by index in the order of their names, after all classes before them. So the
        same folder, learned at once or in several arrivals in the order of its classes' names, ends with the same
        class ids, and in any arrivals with the same images held out. Until it returns nothing of the learner changes.

        Args:
          news: a folder, or what `what_is_new` has found there.
          epochs: passes over the images, this time; None for what the settings say, or what suits their number.
          progress: as in `learn`.

        Returns:
          What was learned, and how well all classes are recognised on held-out images, before and after.

        Raises:
          UsageError: it cannot be learned. The message says why.
          DivergedError: a loss became NaN.
          ExhaustedError: a step needed more memory than there is.
        """
        found = news if isinstance(news, News) else self.what_is_new(news)
        with self._unchanged_if_it_fails():
            return self._learn_news(found, epochs, progress)

    def forget_classes(self, images: Any, labels: Any = None, *, class_names: Sequence[str] | None = None) -> None:
        """Takes classes back, as if they had never come. Only learners whose method is `analytic` can.

        What their images have added is subtracted, up to the rounding of float32, and the head solved anew: all images
        that were learned of the classes must be there once more (others may be among them), as `learn` takes them. The
        first classes stay, as they have trained the network, and so do `history` and what was saved or exported before.

        Raises:
          UsageError: it cannot be done. The learner is as it was.
        """
        check_can_forget(self._choices.method)
        shown, _ = self._intake("forget_classes").read(images, labels, class_names)
        self._state = without_classes(self._ready, shown, self._context())

    def predict(self, images: Any) -> Answers:
        """What images show.

        Args:
          images: an array or a `tf.data.Dataset` as `learn` takes them, with labels or without; or an image file, or a
            list of them.

        Raises:
          UsageError: the learner knows no class yet, or images of another size or kind.
        """
        read = self._intake("predict").read_images(images)
        unlabelled = LabelledImages(read, np.zeros(len(read), np.int64))
        state = self._ready
        features, logits = self._network.predictor(unlabelled, "predict")
        if self.settings.primary_classifier == "nme" and state.means is not None:
            logits = nme_logits(features, state.means)
        return answers_of(logits, state.classes)

    def evaluate(self, images: Any, labels: Any = None, *, class_names: Sequence[str] | None = None) -> Evaluation:
        """How well images of known classes are recognised.

        Args:
          images: as `learn` takes them; of a folder with `train` and `test`, the test images.
          labels: of an array.
          class_names: what whole numbers stand for.

        Raises:
          UsageError: the learner knows no class yet, or not all that the images show.
        """
        intake = self._intake("evaluate")
        source = images if labels is None else (images, labels)
        named = intake.read_labelled(source, class_names, set(self._ready.classes.names))
        found = predict(self._network.predictor, named.indexed(self._ready.classes), self._ready.means)
        return evaluation_of(found, self._ready.classes.names, self.settings.primary_classifier)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that are known, in the order of their arrival."""
        return self._known.names

    @property
    def memory(self) -> MemoryView:
        """What is kept of the images seen so far. Raises UsageError before the first."""
        self._network  # noqa: B018  # nothing is kept before
        return memory_view(self._ready.exemplars, self._ready.classes, self._ready.statistics)

    @property
    def history(self) -> tuple[Evaluation | None, ...]:
        """What each call of `learn` has reached, in their order; None for one without validation images."""
        return tuple(self._history)

    def save(self, folder: str | os.PathLike) -> None:
        """Writes the learner to a folder, in one step: a killed process leaves the earlier content, or this one.

        Args:
          folder: made anew, or one that a learner was saved in before.

        Raises:
          UsageError: the learner knows no class yet, the folder holds something else, cannot be written to, or another
            process is saving there.
        """
        content, model = self._content, self._network.model
        runtime.by_the_first(self._on_devices(), lambda: saving.write(os.fspath(folder), content, model))

    @classmethod
    def load(
        cls, folder: str | os.PathLike, devices: Devices | None = None, method: type[Method] | None = None
    ) -> IncrementalLearner:
        """A learner that was saved; it goes on as the one that was saved would have gone on.

        Args:
          folder: where it was saved.
          devices: what to compute on; None for all GPUs there are, or the CPU.
          method: the class of its method, if that is none of this package's.

        Raises:
          UsageError: there is none, or it is damaged, or of another version.
        """
        with saving.reading(os.fspath(folder), method) as saved:
            learner = cls.from_settings(
                saved.settings,
                saved.traits,
                saved.pixel_range,
                devices=devices,
                validation_share=saved.validation_share,
            )
            parts = {name: getattr(saved.settings, name) for name in saved.chosen}
            learner._choices = dataclasses.replace(learner._choices, parts=parts)
            learner._history = list(saved.history)
            learner.resume(saved.state)
        return learner

    @classmethod
    def from_run(
        cls,
        folder: str | os.PathLike,
        devices: Devices | None = None,
        *,
        validation_share: float = 0.1,
        modules: Sequence[str] = (),
    ) -> IncrementalLearner:
        """A learner that goes on where a run of `mnemonics_tf.main` has come to; the run stays as it is.

        It has the network, exemplars, classes and settings of the last complete phase, and nothing is trained again.
        Images of a run on a folder count as seen if they are still there.

        Args:
          folder: of the run, finished or not.
          devices: what to compute on; None for all GPUs there are, or the CPU.
          validation_share: of the images to come that are held out, where no validation images are given.
          modules: names of the modules that the run's configuration may import: an import runs code. None by default.

        Raises:
          UsageError: there is no run, none of its phases is complete, or a file of it is damaged.
        """
        # What runs consist of stands above this package, which therefore asks for it by its public name.
        return mnemonics_tf.learner_from_run(folder, devices, validation_share, modules)

    def export(self, folder: str | os.PathLike) -> None:
        """Writes a SavedModel that serves without this package, see `mnemonics_tf.serving.export`.

        Args:
          folder: made anew; one that holds a SavedModel is replaced.

        Raises:
          UsageError: the learner knows no class yet, or the folder holds something else.
        """
        self._network  # noqa: B018  # nothing is learned before
        runtime.by_the_first(self._on_devices(), lambda: self._export(os.fspath(folder)))

    def _repr_html_(self) -> str:
        known = self._state is not None and self._state.network is not None
        return display.learner(repr(self), self._history, self.memory._repr_html_() if known else "")

    def __repr__(self) -> str:
        known = self._known
        names = f": {', '.join(known.names[:5])}{', ...' if len(known) > 5 else ''}" if len(known) else ""
        method = AUTO if self._choices.is_open else self._choices.method.name
        return f"IncrementalLearner({method!r}, {len(known)} classes{names})"
