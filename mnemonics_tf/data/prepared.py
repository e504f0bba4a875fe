"""Data sets of TensorFlow Datasets on disk: found or prepared, their splits, and the classes that a run keeps."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import tensorflow_datasets as tfds

from mnemonics_tf import checks
from mnemonics_tf.data.catalogue import classification
from mnemonics_tf.data.paths import absolute
from mnemonics_tf.system import network, tracking

# What TFDS goes without if it is not there: it would prepare the rest for hours, of which a run can make no use.
_ARCHIVES = {"imagenet2012": ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar")}

_SECONDS_TO_ANSWER = 4.0


def prepared_builder(name: str, data_dir: str | None) -> tfds.core.DatasetBuilder:
    """The data set, which is downloaded and prepared if it is not there.

    Args:
      name: as TFDS has it, possibly with a configuration and a version: `cifar100:3.0.2`.
      data_dir: where TFDS keeps its data, `~` for the home; None for the environment's TFDS_DATA_DIR, or TFDS's
        default.

    Raises:
      UsageError: no such data set or folder, no way to get it, or features other than an image and its class.
    """
    if data_dir is not None:
        if not isinstance(data_dir, str) or not os.path.isdir(absolute(data_dir)):
            raise checks.UsageError(f"tfds.data_dir = {data_dir!r}: there is no such folder.")
        data_dir = absolute(data_dir)
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError:
        raise checks.UsageError(
            f"tfds.name = {name!r}: TensorFlow Datasets has no such set.{checks.nearest(name, tfds.list_builders())}"
        ) from None
    except Exception as error:  # TFDS raises all kinds of them for names and versions that are not well formed
        raise checks.UsageError(f"tfds.name = {name!r}: {first_line(error)}.") from error
    classification(builder)  # before hours of downloading what is of no use
    if not os.path.isdir(builder.data_dir):
        _prepare(builder)
    return builder


def _prepare(builder: tfds.core.DatasetBuilder) -> None:
    _check_manual_files(builder)
    name = builder.name
    _check_reachable(builder)
    tracking.notice(f"Data set {name!r} is not at {builder.data_dir}: downloading and preparing it ...")
    try:
        builder.download_and_prepare()
    except Exception as error:  # TFDS raises whatever its downloaders raise
        raise _absent(builder, first_line(error)) from error


def _check_reachable(builder: tfds.core.DatasetBuilder) -> None:
    """Raises UsageError if the data set is to be downloaded and no host of it answers: TFDS tries for minutes."""
    downloads = os.path.join(data_root(builder), "downloads")
    # TFDS leaves such a file beside each that it has downloaded: there may be nothing to download any more.
    if os.path.isdir(downloads) and any(name.endswith(".INFO") for name in os.listdir(downloads)):
        return
    urls = list(builder.url_infos or ())
    if urls and not network.any_answers(urls, _SECONDS_TO_ANSWER):
        raise _absent(builder, f"no answer from its host within {_SECONDS_TO_ANSWER:.0f} s; is there a network?")


def _absent(builder: tfds.core.DatasetBuilder, reason: str) -> checks.UsageError:
    """The error of a data set that is not there and cannot be had."""
    return checks.UsageError(
        f"Data set {builder.name!r} is not at {builder.data_dir} and could not be downloaded ({reason}). "
        "Prepare it on a machine with internet (in Python: import tensorflow_datasets; "
        f"tensorflow_datasets.load('{builder.name}')), then point the environment variable TFDS_DATA_DIR (or the "
        "binding tfds.data_dir) at its folder."
    )


def _check_manual_files(builder: tfds.core.DatasetBuilder) -> None:
    """Raises UsageError if the data set is made of files that nobody but the user can get, and they are not there."""
    instructions = " ".join((builder.MANUAL_DOWNLOAD_INSTRUCTIONS or "").split())
    if not instructions:
        return
    folder = os.path.join(data_root(builder), "downloads", "manual")
    present = os.listdir(folder) if os.path.isdir(folder) else []
    missing = [file for file in _ARCHIVES.get(builder.name, ()) if file not in present]
    if missing:
        what = f"Put (or link) {' and '.join(missing)} into {folder}"
    elif not present:
        what = f"Put what it needs into {folder}"
    else:
        return
    raise checks.UsageError(
        f"Data set {builder.name!r} is not at {builder.data_dir}, and TensorFlow Datasets cannot download it. {what} "
        f"and start again: it is prepared then. TensorFlow Datasets says: {instructions.rstrip('.')}. If it is "
        "prepared elsewhere, point the environment variable TFDS_DATA_DIR (or the binding tfds.data_dir) there. "
        f"'python -m mnemonics_tf.data.shards {builder.name}' does all this ahead of a run."
    )


def data_root(builder: tfds.core.DatasetBuilder) -> str:
    """The folder that holds all data sets of TFDS, this one among them."""
    # `<root>/<name>[/<config>]/<version>`. TFDS's own answer is another for data sets that it knows from disk alone.
    path = os.path.abspath(builder.data_dir)
    for _ in builder.info.full_name.split("/"):
        path = os.path.dirname(path)
    return path


def kept_classes(names: Sequence[str], count: int | None, seed: int) -> np.ndarray:
    """Ids of the classes that a run keeps: all of them, or some drawn by chance, in the order of their names.

    The script that made the published ImageNet-Subset drew from the sorted names of class folders and copied those
    folders; training then listed the copies, sorted again, and shuffled *that* list into the class order. So the order
    of the draw is forgotten: ids 0 to count - 1 go by name, and `Protocol` shuffles them.

    Args:
      names: of all classes, by id.
      count: how many to draw; None for all, in the data set's own order.
      seed: of the draw.

    Returns:
      `[count]` int64.

    Raises:
      UsageError: the data set has fewer classes.
    """
    if count is None:
        return np.arange(len(names))
    if count > len(names):
        raise checks.UsageError(
            f"tfds.num_classes_drawn = {count}: the data set has {len(names)} classes. Draw at most as many."
        )
    by_name = np.array(sorted(range(len(names)), key=lambda class_id: names[class_id]), np.int64)
    return by_name[np.sort(np.random.RandomState(seed).choice(len(names), count, replace=False))]


def unreadable(builder: tfds.core.DatasetBuilder, split: str, reason: str) -> checks.UsageError:
    """The error of files of a data set that are not as TFDS wrote them."""
    return checks.UsageError(
        f"Data set {builder.name!r}: its {split} files in {builder.data_dir} cannot be read ({reason}). Delete that "
        "folder to prepare them again."
    )


def first_line(error: Exception) -> str:
    """What an exception says, shortened, without a full stop."""
    text = str(error).strip()
    return text.splitlines()[0][:160].rstrip(".") if text else type(error).__name__
