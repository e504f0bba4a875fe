"""What a learner works with: what was chosen, what is settled, what it has come to, and its devices."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from mnemonics_tf import checks, runtime
from mnemonics_tf.data.types import Arrival, ImageTraits, LabelledImages
from mnemonics_tf.evaluation.classifiers import predict
from mnemonics_tf.learner import arrivals, expected, progress, saving
from mnemonics_tf.learner.admission import check_arriving
from mnemonics_tf.learner.answers import Evaluation, Learned, evaluation_of
from mnemonics_tf.learner.context import Context, Journal, beginning, context_of, factory_of
from mnemonics_tf.learner.defaults import Choices, settled, with_epochs
from mnemonics_tf.learner.journal import KeepingJournal
from mnemonics_tf.learner.news import News, named, seen_with
from mnemonics_tf.learner.seen import SeenImages
from mnemonics_tf.learner.settings import Settings
from mnemonics_tf.learner.state import ClassTable, LearnerState, Network
from mnemonics_tf.learner.steps import run_phase
from mnemonics_tf.models.backbone import Backbone
from mnemonics_tf.serving.export import export_saved_model
from mnemonics_tf.serving.replacing import replacing_export
from mnemonics_tf.system import seeds
from mnemonics_tf.system.devices import Devices
from mnemonics_tf.system.tracking import Tracker, notice


class Workshop:
    """The inside of `IncrementalLearner`, which has what people call."""

    _choices: Choices
    _devices: Devices
    _strategy: tf.distribute.Strategy | None
    _tracker: Tracker
    _journal: Journal
    _settings: Settings | None
    _traits: ImageTraits | None
    _state: LearnerState | None
    _validation_share: float
    _history: list[Evaluation | None]
    _finished_places: set[str]  # folders of attempts that came to their end

    @property
    def settings(self) -> Settings:
        """All settings, chosen ones and settled ones. Raises UsageError before the first images."""
        if self._settings is None:
            raise checks.UsageError("Settings are settled by the first images: call learn first.")
        return self._settings

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`(H, W, C)` of all images. Raises UsageError before the first."""
        return self._seen.image_shape

    @property
    def resized_side(self) -> int | None:
        """Pixels to which the shorter side of images from files is brought before the centre square is cut out.

        None for the side of the square. Raises UsageError before the first images.
        """
        return self._seen.resized_side

    def advance(self, arrival: Arrival) -> Evaluation | None:
        """One phase of Algorithm 1, on images that are prepared already: what `learn` does once it has read them.

        Args:
          arrival: with class indices; new classes come after the known ones.

        Returns:
          How well the arrival's test images are recognised; None without any.

        Raises:
          DivergedError: a loss became NaN. The learner is as it was.
        """
        state = run_phase(self._ready, arrival, self._context())
        reached = None
        if state.predictions is not None:
            reached = evaluation_of(state.predictions, state.classes.names, self.settings.primary_classifier)
        self._state, self._history = state, [*self._history, reached]
        return reached

    def resume(self, read: Callable[[Context], LearnerState]) -> None:
        """Goes on from a state that was written down; `read` makes it with this learner's tools."""
        self._state = read(self._context())

    @property
    def _known(self) -> ClassTable:
        return ClassTable() if self._state is None else self._state.classes

    @property
    def _seen(self) -> ImageTraits:
        if self._traits is None:
            raise checks.UsageError("The learner has seen no image yet: call learn first.")
        return self._traits

    @property
    def _ready(self) -> LearnerState:
        if self._state is None:
            raise checks.UsageError("The learner knows no class yet: call learn first.")
        return self._state

    @property
    def _network(self) -> Network:
        network = None if self._state is None else self._state.network
        if network is None:
            raise checks.UsageError("The learner knows no class yet: call learn first.")
        return network

    def _intake(self, purpose: str) -> arrivals.Intake:
        """Reads images for a learner that must have learned something."""
        if not len(self._known):
            raise checks.UsageError(f"The learner knows no class yet: call learn before {purpose}.")
        return self._reader()

    def _reader(self) -> arrivals.Intake:
        if not self._devices.works_alone:
            self._strategy_of_all()  # before anything is computed, as decoding images is
        chosen = self._choices.backbone
        backbone = chosen if isinstance(chosen, Backbone) else None
        return arrivals.Intake(self._known, self._traits, self._choices.side, backbone)

    @property
    def _seen_images(self) -> SeenImages:
        return SeenImages() if self._state is None else self._state.seen

    @property
    def _content(self) -> saving.Content:
        """The learner as it is written down, or begun: what was chosen, settled and learned so far."""
        chosen = tuple(self._choices.parts)
        return saving.Content(self.settings, self._seen, self._ready, self._validation_share, self._history, chosen)

    @contextlib.contextmanager
    def _going_on_in(self, folder: str | os.PathLike | None, arrival: Arrival) -> Iterator[float]:
        """Inside, an arrival is learned whose steps put down in a learner's folder what they have come to.

        Yields:
          Seconds that an interrupted attempt has taken, which this one goes on with.
        """
        if folder is None:
            yield 0.0
            return
        strategy = self._on_devices()
        is_first = runtime.is_chief(strategy)
        seconds = self._tracker.seconds_so_far
        place = progress.place_of(folder, self._content, arrival, seconds, is_first, self._finished_places)
        earlier = place.seconds()
        if len(place):
            if is_first:
                notice("It goes on with what an interrupted attempt to learn this has come to.")
            self._tracker.start_phase(self._ready.phase, None, earlier)
        journal, self._journal = self._journal, KeepingJournal(place, runtime.agreement(strategy))
        try:
            yield sum(earlier.values())
            self._finished_places.add(place.folder)
        finally:
            self._journal = journal

    @contextlib.contextmanager
    def _unchanged_if_it_fails(self) -> Iterator[None]:
        """Puts everything back as it was if what happens inside ends with an error, or by Ctrl-C."""
        before = self._choices, self._settings, self._traits, self._state, self._history
        try:
            yield
        except BaseException:
            self._choices, self._settings, self._traits, self._state, self._history = before
            raise

    def _settled_for(self, train: arrivals.NamedImages) -> tuple[Choices, Settings, ImageTraits]:
        """Choices, settings and traits with which such images would be learned: the first ones settle what is open."""
        if self._state is not None:
            num_images = len(train) + self._state.exemplars.num_images
            followed = self._choices.followed(self.settings, max(self._seen.image_shape[:2]), num_images)
            return self._choices, followed, self._seen
        choices = self._choices.for_classes(len(train.names))
        height, width, channels = train.images.shape[1:]
        return choices, *settled(choices, (height, width, channels), len(train), train.is_grey)

    def _begin(self, train: arrivals.NamedImages, epochs: int | None = None) -> Settings:
        """Settles what is open, and checks that the images can be learned so. Raises UsageError if they cannot.

        Returns:
          The settings without `epochs`, which are for this time.
        """
        self._choices, self._settings, self._traits = self._settled_for(train)
        settings = self._settings
        if self._state is None:
            pixel_range = self._settings.network.pixel_range or arrivals.statistics(train)
            self._state = beginning(self._settings, self._traits, pixel_range)
        if epochs is not None:
            self._settings = with_epochs(self._settings, epochs)
        exemplars = self._ready.exemplars
        check_arriving(self._settings, self._traits, self._known, train, exemplars, self._on_devices())
        self._tracker.start_phase(self._ready.phase, None)
        return settings

    def _expected_seconds(self, news: News, epochs: int | None) -> float | None:
        """Roughly how long it will take to learn what is new; None where nobody knows the network's size."""
        train = named(news.train)
        if not len(train):
            return 0.0
        _, settings, traits = self._settled_for(train)
        settings = settings if epochs is None else with_epochs(settings, epochs)
        kept = 0 if self._state is None else self._state.exemplars.num_images
        num_new = len(train.new_classes(self._known)[0])
        load = expected.Load(len(train), len(self._known), num_new, kept, len(train.names) - num_new)
        found = expected.seconds(settings, traits.image_shape, [load])
        return None if found is None else found[0]

    def _learn_news(self, news: News, epochs: int | None, folder: str | os.PathLike | None) -> Learned:
        """Learns what is new in a folder, in a phase; images that are only to be measured by need none."""
        start, earlier = time.perf_counter(), 0.0
        self._check_still_new(news)
        known, train = self._known, named(news.train)
        settings = self._begin(train, epochs) if len(train) else self.settings
        state = self._ready
        ids, names = train.new_classes(known)
        seen = seen_with(state.seen, news, known.grown(ids, names))
        before = self._measured(seen.held_out, known)
        self._state = dataclasses.replace(state, seen=seen)
        if len(train):
            arrival = Arrival(ids, names, train.indexed(known.grown(ids, names)), seen.held_out)
            with self._going_on_in(folder, arrival) as earlier:
                after = self.advance(arrival)
            self._settings = settings
        else:
            after = self._measured(seen.held_out, self._known)
        counts = dict(collections.Counter(train.names[label] for label in train.labels))
        known_now = None
        if before is not None and after is not None and seen.held_out is not None:
            shown = np.bincount(seen.held_out.labels, minlength=len(known))[: len(known)]  # images of known classes
            rates = [after.by_class.get(name, 0.0) for name in known.names]
            known_now = float(np.average(rates, weights=shown))
        return Learned(names, counts, before, after, known_now, earlier + time.perf_counter() - start)

    def _check_still_new(self, news: News) -> None:
        """Raises UsageError if what was learned since a folder was looked through has made its news old."""
        digests = (digest.tobytes() for part in (news.train, news.test) for digest in part.digests)
        if not self._seen_images.row_of.keys().isdisjoint(digests):
            raise checks.UsageError(
                f"{news.folder}: it was learned since it was looked through. Look what is new again."
            )
        (height, width, _), own = news.train.images.images.shape[1:], self._traits
        if own is not None and own.image_shape[:2] != (height, width):
            raise checks.UsageError(
                f"{news.folder}: its images were looked at in {height} x {width} pixels, before the first images had "
                f"settled that all have {own.image_shape[0]} x {own.image_shape[1]}. Look what is new again."
            )

    def _measured(self, held_out: LabelledImages | None, classes: ClassTable) -> Evaluation | None:
        """How well the network of now recognises the held-out images of some classes; None if there are none."""
        shown = None if held_out is None else held_out.of_classes(range(len(classes)))
        if shown is None or not len(shown) or not len(classes):
            return None
        found = predict(self._network.predictor, shown, self._ready.means)
        return evaluation_of(found, classes.names, self.settings.primary_classifier)

    def _strategy_of_all(self) -> tf.distribute.Strategy:
        """What computes all that this learner ever does; its settings need not be settled."""
        self._strategy = self._strategy or self._devices.create_strategy()
        return self._strategy

    def _on_devices(self) -> tf.distribute.Strategy:
        """The same, for a learner whose settings are: they say whether it computes the same bits every time."""
        if self.settings.deterministic:
            seeds.make_deterministic()
        return self._strategy_of_all()

    def _context(self) -> Context:
        pixel_range, strategy = self._ready.pixel_range, self._on_devices()
        return context_of(self.settings, self._seen, pixel_range, strategy, self._tracker, self._journal)

    def _export(self, folder: str) -> None:
        """Writes a SavedModel."""
        state, factory = self._ready, factory_of(self.settings, self._seen)
        means = state.means if self.settings.primary_classifier == "nme" else None
        with replacing_export(folder) as partial:
            export_saved_model(
                partial,
                self._network.model,
                factory,
                state.pixel_range,
                state.classes.ids,
                state.classes.names,
                means,
                self._seen.resized_side,
            )

    def _seed_of(self, purpose: str) -> int:
        phase = 0 if self._state is None else self._state.phase
        return seeds.stage_seed(self._choices.seed, phase, purpose)
