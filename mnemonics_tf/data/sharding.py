"""Sorts the images of a TFDS data set by class, once: writes the files that `class_files` opens.

The data set's own files are read one after the other. What one of them has of the classes asked for is appended to
their files and forced to disk; then the journal says so. A build that is killed loses what it did of one such file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
import tqdm

from mnemonics_tf import checks, runtime
from mnemonics_tf.data.catalogue import check_labels, classification
from mnemonics_tf.data.class_files import FOOTER, HEADER, ClassFile, SplitFolder
from mnemonics_tf.data.prepared import first_line, unreadable
from mnemonics_tf.system import files, locks, tracking

_THREADS = 8  # that many files are open at once; a disk takes writes to several in one go
_READ_AT_ONCE = 100  # images; some 10 MB


def build(builder: tfds.core.DatasetBuilder, folders: Sequence[SplitFolder], class_ids: np.ndarray) -> None:
    """Makes sure that the files of some classes are there and complete. Reads the data set only if they are not.

    What an earlier call has begun goes on, and classes that are there already are left alone. A second process waits
    for the first.

    Args:
      builder: the data set, prepared.
      folders: of the splits that are needed.
      class_ids: of the classes that are needed, `[k]`.

    Raises:
      UsageError: images that are not encoded, or have another number of channels than three; too little room on the
        disk, a folder that cannot be written to, or files that were damaged.
    """
    _check_encoded(builder)
    needed = set(class_ids.tolist())
    path = folders[0].dataset_path
    try:
        for folder in folders:
            present = folder.complete()
            folder.check_files({class_id: present[class_id] for class_id in needed & present.keys()})
        if not any(_missing(folder, needed) for folder in folders):
            return
        os.makedirs(path, exist_ok=True)
        text = f"Another process is sorting images by class in {path}: waiting for it ..."
        with locks.hold(os.path.join(path, ".lock"), lambda: tracking.notice(text)):
            # Another process may have built them meanwhile.
            missing = {folder: classes for folder in folders if (classes := _missing(folder, needed))}
            if missing:
                _announce(builder, missing, path)
            for folder, classes in missing.items():
                _build_split(builder, folder, classes)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            mend = "Free some of the disk and start again: it goes on from where it stopped."
        else:
            mend = "Name another folder, which you can write to (tfds.shards_dir, or --shards_dir)."
        reason = error.strerror or error
        raise checks.UsageError(f"{path}: images cannot be sorted by class there ({reason}). {mend}") from error


def _check_encoded(builder: tfds.core.DatasetBuilder) -> None:
    image = classification(builder).image
    if image.np_dtype != np.uint8 or image.shape[-1] not in (3, None):
        raise checks.UsageError(
            f"tfds.name = {builder.name!r}: its images are {image}. Expected images of three channels of 8 "
            "bits that are stored as JPEG or PNG, to leave them in files. Set tfds.in_memory = True if there is room."
        )


def _missing(folder: SplitFolder, needed: set[int]) -> list[int]:
    return sorted(needed - folder.complete().keys())


def _announce(builder: tfds.core.DatasetBuilder, missing: Mapping[SplitFolder, Sequence[int]], path: str) -> None:
    """Says what is about to be built. Raises UsageError if the disk has no room for it."""
    num_classes = classification(builder).num_classes
    left, largest = 0, 0
    for folder, classes in missing.items():
        info = builder.info.splits[folder.split]
        written = folder.unfinished()
        present = sum(written[class_id].num_bytes for class_id in classes if class_id in written)
        left += max(0, round(info.num_bytes * len(classes) / num_classes) - present)
        largest = max(largest, info.num_bytes // len(folder.source_shards))
    free = shutil.disk_usage(path).free
    if left + largest > free:  # what comes of one of the data set's files is written twice, for a moment
        raise checks.UsageError(
            f"{path}: the images sorted by class take about {_amount(left)} more, and {_amount(free)} are free. Free "
            "some of the disk, or name a folder on another (tfds.shards_dir, or --shards_dir)."
        )
    count = len(set().union(*missing.values()))
    splits = " and ".join(folder.split for folder in missing)
    tracking.notice(
        f"Sorting the images of {builder.info.full_name!r} by class into {path}: {splits}, {count:,} of "
        f"{num_classes:,} classes, about {_amount(left)} to write. All of the data set is read for it, once. Stopped, "
        "it goes on the next time."
    )


def _build_split(builder: tfds.core.DatasetBuilder, folder: SplitFolder, class_ids: Sequence[int]) -> None:
    os.makedirs(folder.path, exist_ok=True)
    complete = folder.complete()
    lengths = folder.lengths(complete)  # now, and not after hours: it may be damaged
    classes = _resumed(folder, class_ids)
    first = min(classes[class_id].num_source_shards for class_id in class_ids)
    total = sum(folder.source_shards[first:])
    with tracking.progress(f"sorting {builder.name} {folder.split} by class", total, "images") as bar:
        for shard in range(first, len(folder.source_shards)):
            # Classes that an earlier build has brought further have its images already.
            wanted = [class_id for class_id in class_ids if classes[class_id].num_source_shards == shard]
            images = _images_of(builder, folder, shard, wanted, bar)
            added = _append(folder, images)
            for class_id in wanted:
                before = classes[class_id]
                classes[class_id] = ClassFile(
                    shard + 1, before.num_records + len(images[class_id]), before.num_bytes + added[class_id]
                )
            folder.write_unfinished(classes)
    lengths |= _counted(builder, folder, {class_id: classes[class_id] for class_id in class_ids})
    complete |= {class_id: classes.pop(class_id) for class_id in class_ids}
    _check_total(builder, folder, complete)
    folder.write_complete(complete, lengths)
    folder.write_unfinished(classes)


def _resumed(folder: SplitFolder, class_ids: Sequence[int]) -> dict[int, ClassFile]:
    """How far every unfinished class has come. Their files are cut off where the journal knows of no more."""
    complete = folder.complete()
    classes = {class_id: each for class_id, each in folder.unfinished().items() if class_id not in complete}
    for class_id in class_ids:
        known = classes.setdefault(class_id, ClassFile())
        path = folder.class_file(class_id)
        with open(path, "ab") as file:
            if file.tell() < known.num_bytes:
                raise folder.damaged(path)
            file.truncate(known.num_bytes)
    files.flush(folder.path)  # where new files have their names
    return classes


def _images_of(
    builder: tfds.core.DatasetBuilder, folder: SplitFolder, shard: int, class_ids: Sequence[int], bar: tqdm.tqdm
) -> dict[int, list[bytes]]:
    """The encoded images of some classes in one of the data set's own files, in its order."""
    split = folder.split
    # One file is read as it is: nothing is shuffled, and nothing read from several files in turn.
    config = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
    features = classification(builder)
    examples = builder.as_dataset(
        split=f"{split}[{shard}shard]", decoders=features.partial, shuffle_files=False, read_config=config
    )
    batches = examples.map(lambda example: (example[features.image_key], example[features.label_key]))
    batches = runtime.untuned(batches.batch(_READ_AT_ONCE))
    found: dict[int, list[bytes]] = {class_id: [] for class_id in class_ids}
    count = 0
    try:
        for images, labels in batches.as_numpy_iterator():
            check_labels(builder, split, labels, features.num_classes)
            for image, label in zip(images, labels.tolist(), strict=True):
                if label in found:
                    found[label].append(image)
            count += len(labels)
            bar.update(len(labels))
    except tf.errors.OpError as error:
        raise unreadable(builder, split, first_line(error)) from error
    if count != folder.source_shards[shard]:
        expected = folder.source_shards[shard]
        raise unreadable(builder, split, f"file {shard} has {count} images in the place of {expected}")
    return found


def _append(folder: SplitFolder, images: Mapping[int, Sequence[bytes]]) -> dict[int, int]:
    """Appends images to the files of their classes and forces them to disk. Returns the bytes added to each."""
    added = {class_id: sum(map(len, each)) + len(each) * (HEADER + FOOTER) for class_id, each in images.items()}
    starts = dict(zip(added, np.cumsum([0, *added.values()]).tolist(), strict=False))
    # The library writes one file of all of them, checksums included; its pieces are TFRecord files, too.
    partial = os.path.join(folder.path, "appended.partial")
    try:
        with tf.io.TFRecordWriter(partial) as writer:
            for each in images.values():
                for image in each:
                    writer.write(image)
        if os.path.getsize(partial) != sum(added.values()):
            raise OSError(errno.EIO, "what was written is not all there")

        def append(class_id: int) -> None:
            with open(partial, "rb") as source, open(folder.class_file(class_id), "ab") as file:
                source.seek(starts[class_id])
                left = added[class_id]
                while left:
                    piece = source.read(min(left, 2**24))
                    file.write(piece)
                    left -= len(piece)
                file.flush()
                os.fsync(file.fileno())

        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(append, [class_id for class_id, length in added.items() if length]))
    except tf.errors.OpError as error:
        full = isinstance(error, tf.errors.ResourceExhaustedError)
        raise OSError(errno.ENOSPC if full else errno.EIO, first_line(error)) from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(partial)
    return added


def _counted(
    builder: tfds.core.DatasetBuilder, folder: SplitFolder, classes: Mapping[int, ClassFile]
) -> dict[int, np.ndarray]:
    """Bytes of each image in the files of some classes. Raises UsageError if there are other than were appended."""
    paths = [folder.class_file(class_id) for class_id in classes]
    lengths = {}
    title = f"counting {builder.name} {folder.split}"
    with ThreadPoolExecutor(_THREADS) as pool, tracking.progress(title, len(classes), "classes") as bar:
        for class_id, path, found in zip(classes, paths, pool.map(record_lengths, paths), strict=True):
            if found is None or len(found) != classes[class_id].num_records:
                raise folder.damaged(path)
            lengths[class_id] = found
            bar.update(1)
    return lengths


def _check_total(builder: tfds.core.DatasetBuilder, folder: SplitFolder, complete: Mapping[int, ClassFile]) -> None:
    """Raises UsageError if all classes are there and together have not all images."""
    total = sum(each.num_records for each in complete.values())
    expected = builder.info.splits[folder.split].num_examples
    if len(complete) == classification(builder).num_classes and total != expected:
        raise checks.UsageError(
            f"{folder.path} has {total:,} images of all classes, and {builder.name!r} says that it has {expected:,}. "
            "Delete that folder to build it anew."
        )


def record_lengths(path: str) -> np.ndarray | None:
    """Bytes of each record of a TFRecord file, without its frame, `[n]` int64; None if the file is no such file.

    Only the frames are read.
    """
    with open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        position, lengths = 0, []
        while position < size:
            length = int.from_bytes(os.pread(file.fileno(), 8, position), "little")
            lengths.append(length)
            position += length + HEADER + FOOTER
    return np.array(lengths, np.int64) if position == size else None


def _amount(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"
