"""A learner that goes on where a run of the command line has come to: `IncrementalLearner.from_run`."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mnemonics_tf import checks, config
from mnemonics_tf.data.folder import Folder, is_held_in_memory, parts
from mnemonics_tf.data.identity import class_marks
from mnemonics_tf.data.layout import listed
from mnemonics_tf.data.listing import root_of, scan
from mnemonics_tf.data.reading import in_files, look_through
from mnemonics_tf.data.types import ImageTraits, LabelledImages, PixelRange
from mnemonics_tf.evaluation.classifiers import means_of
from mnemonics_tf.learner.context import Context
from mnemonics_tf.learner.learner import IncrementalLearner
from mnemonics_tf.learner.seen import DIGEST_BYTES, SeenImages, digest_of
from mnemonics_tf.learner.state import ClassTable, LearnerState
from mnemonics_tf.run import data_note, intact
from mnemonics_tf.run.configuration import Configuration
from mnemonics_tf.run.directory import RunDirectory
from mnemonics_tf.run.phase_files import read_state
from mnemonics_tf.system import files, folders, gin_imports, tracking
from mnemonics_tf.system.devices import Devices


def learner_from_run(
    folder: str | os.PathLike,
    devices: Devices | None = None,
    validation_share: float = 0.1,
    modules: Sequence[str] = (),
) -> IncrementalLearner:
    """The learner that a run has come to after its last complete phase: see `IncrementalLearner.from_run`.

    Args:
      folder: of the run, finished or not.
      devices: what to compute on; None for all GPUs there are, or the CPU.
      validation_share: of the images to come that are held out, where no validation images are given.
      modules: names of the modules that the run's configuration may import.

    Raises:
      UsageError: there is no run, none of its phases is complete, or a file of it is damaged.
    """
    directory = RunDirectory(os.fspath(folder))
    configuration = _configuration_of(directory, modules)
    settings, complete = configuration.settings, directory.num_complete_phases()
    noted = data_note.read(directory, {})
    if not complete or noted is None:
        raise checks.UsageError(f"{directory.path}: no phase of that run is complete. Start it again first.")
    if settings.method.trains_on_old_data:
        raise checks.UsageError(
            f"{directory.path}: its method {settings.method.name!r} trains on the images of old classes again, and a "
            "learner does not have them."
        )
    intact.check_configuration(directory, files.read_text(directory.config_file))
    intact.check_last_mark(directory)
    directory.verified(complete - 1)
    classes = _classes_of(noted, complete)
    # What a probe finds goes into a run's files, of which a learner has none.
    probe = dataclasses.replace(settings.probe, enabled=False)
    learner = IncrementalLearner.from_settings(
        dataclasses.replace(settings, probe=probe),
        _traits_of(noted, configuration),
        PixelRange(**files.with_tuples(noted["pixel_range"])),
        devices=devices,
        validation_share=validation_share,
    )
    marks = data_note.images_as_learned(directory, noted.get("images", {}))
    seen = _seen_by(configuration.source, noted, marks, classes)

    def read(context: Context) -> LearnerState:
        state = read_state(directory.phase_dir(complete - 1), complete - 1, classes, context, streamed=False)
        if state.network is None:
            raise ValueError("A complete phase has a network.")
        means = means_of(
            state.network.predictor, state.exemplars.decoded(), len(classes), context.traits.horizontal_flip
        )
        return dataclasses.replace(state, means=means, seen=seen)

    learner.resume(read)
    return learner


def _configuration_of(directory: RunDirectory, modules: Sequence[str]) -> Configuration:
    if not folders.is_run(directory.path):
        what = "no such folder" if not os.path.isdir(directory.path) else f"no {folders.RUN_FILE} in it"
        is_learner = folders.is_learner(directory.path)
        hint = " It is the folder of a learner: IncrementalLearner.load reads it." if is_learner else ""
        raise checks.UsageError(f"{directory.path}: there is {what}. Expected the folder of a run.{hint}")
    # The folder may come from a stranger, and what lies in it is not imported.
    config.parse(
        [directory.config_file], [], gin_imports.Trusted(tuple(modules), False, "modules=['{0}'], or --gin_import={0}")
    )
    return config.resolved()


def _classes_of(noted: Mapping[str, Any], complete: int) -> ClassTable:
    """The classes of the complete phases."""
    sizes = tuple(noted["phase_sizes"][:complete])
    ids = tuple(noted["class_order"][: sum(sizes)])
    return ClassTable(ids, tuple(noted["class_names"][class_id] for class_id in ids), sizes)


def _traits_of(noted: Mapping[str, Any], configuration: Configuration) -> ImageTraits:
    """What the images have in common; runs of earlier versions did not note it, and their data are asked."""
    if "traits" in noted:
        return ImageTraits(**files.with_tuples(noted["traits"]))
    return configuration.load_dataset().traits


def _seen_by(source: Any, noted: Mapping[str, Any], marks: Mapping[str, Any], classes: ClassTable) -> SeenImages:
    """The images in a folder that the run has learned or measured by, if they are still what they were.

    `marks` are those of the images as they were learned, `{split: [mark of each class index]}`. Where the run has split
    the images itself, more images of a class change the split of the classes after it, too.
    """
    if not isinstance(source, Folder) or source.path is None or source.image_size is None:
        return SeenImages()
    root = root_of(source.path)
    if not os.path.isdir(root):
        tracking.notice(f"{root} is not there: images of the run that come from elsewhere will count as new.")
        return SeenImages()
    found = _as_the_run_split_them(root, source, noted["class_names"])
    if not is_held_in_memory(sum(map(len, found)), source.image_size):
        tracking.notice(f"{root} has too many images to look at all of them: those of the run will count as new.")
        return SeenImages()
    index = {noted["class_names"][class_id]: place for place, class_id in enumerate(noted["class_order"])}
    order = np.array([index.get(name, -1) for name in noted["class_names"]], np.int64)
    seen, changed = SeenImages(), set()
    for split, part in zip(("train", "test"), found, strict=True):
        indexed = LabelledImages(part.images, order[part.labels])
        now = class_marks(indexed, len(noted["class_order"]))
        before = marks.get(split) or now
        same = [place for place in range(len(classes)) if before[place] == now[place]]
        changed |= set(range(len(classes))) - set(same)
        seen = _joined(seen, indexed.of_classes(same), split == "test")
    if changed:
        tracking.notice(
            f"{root}: the images of {listed([classes.names[place] for place in sorted(changed)])} are not those that "
            "the run has learned. They count as new."
        )
    return seen


def _as_the_run_split_them(root: str, source: Folder, class_names: list[str]) -> tuple[LabelledImages, LabelledImages]:
    """Training and test images of the run's classes, whatever classes the folder holds beside them by now."""
    names, listings = scan(root, fewest=1, may_be_empty=class_names)
    number = np.array([class_names.index(name) if name in class_names else -1 for name in names], np.int64)
    own = []
    for listing in listings:
        labels = number[listing.labels]
        files = tuple(file for file, label in zip(listing.files, labels.tolist(), strict=True) if label >= 0)
        own.append(dataclasses.replace(listing, files=files, labels=labels[labels >= 0]))
    if source.image_size is None:
        raise ValueError("A folder without image_size cannot have been made.")
    return parts(own, source.image_size, source.resized_side, source.test_share, source.split_seed)


def _joined(seen: SeenImages, part: LabelledImages, held_out: bool) -> SeenImages:
    """Adds images of a run to those seen; what cannot be read was left out by the run as well."""
    if not len(part):
        return seen
    readable, reasons = look_through(part, "looking at the images of the run", keep=True)
    images = in_files(part)
    digests = [list(digest_of(images.content(row))) for row in range(len(part)) if row not in reasons]
    array = np.array(digests, np.uint8).reshape(-1, DIGEST_BYTES)
    return seen.joined(array, readable.labels, readable.array if held_out else None)
