"""Budgets of bytes where images of a class differ much in size: what is refused early, and what is kept."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from mnemonics_tf.checks import UsageError
from mnemonics_tf.data.stored import StoredImages
from mnemonics_tf.data.types import LabelledImages
from mnemonics_tf.memory import budget
from mnemonics_tf.memory.codecs import Coded
from mnemonics_tf.memory.coded import held
from mnemonics_tf.memory.formats import format_for
from mnemonics_tf.memory.selection import real_slots
from mnemonics_tf.memory.settings import Memory
from mnemonics_tf.memory.store import ExemplarStore, as_kept

_SIDE = 24
_CODEC = Coded("png", 90)


def _noise(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, _SIDE, _SIDE, 3), np.uint8)


def _flat(count: int) -> np.ndarray:
    return np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, _SIDE, _SIDE, 3))


def _memory(codec: str, **settings) -> Memory:
    return Memory(strategy="random", adjust=False, codec=codec, **settings)


def _files(folder: Path, images: np.ndarray) -> StoredImages:
    form, paths = format_for("png", 90, (_SIDE, _SIDE, 3)), []
    for number, image in enumerate(images):
        paths.append(str(folder / f"{number}.png"))
        Path(paths[-1]).write_bytes(form.file(form.encode(image)))
    return StoredImages.of_files(paths, _SIDE)


@pytest.mark.parametrize("codec", ["png", "source"])
def test_class_whose_first_images_are_too_large_is_kept_by_the_others(codec, tmp_path):
    images = _files(tmp_path, np.concatenate([_noise(3), _flat(5)]))
    data, memory = LabelledImages(images, np.zeros(8, np.int64)), _memory(codec, bytes_per_class=1000)
    assert budget.check_first_images(memory, data, ["ant"], 1) >= 1
    assert len(budget.select_fitting(memory, data, None, ["ant"], np.random.default_rng(0))) == 5
    with pytest.raises(UsageError, match="an exemplar of class 'ant' takes"):
        budget.check_first_images(memory, data.take(np.arange(3)), ["ant"], 1)


@pytest.mark.parametrize("codec", ["png", "source"])
def test_what_is_no_file_is_no_reason_to_refuse_a_budget_or_to_wait(codec, tmp_path):
    images = _files(tmp_path, _flat(5))
    os.remove(images.files[0])
    os.mkfifo(images.files[0])  # whoever opened it would wait for ever
    os.remove(images.files[1])
    os.symlink("/nowhere", images.files[1])
    memory = _memory(codec, bytes_per_class=1000)
    assert budget.check_first_images(memory, LabelledImages(images, np.zeros(5, np.int64)), ["ant"], 1) > 1


@pytest.mark.parametrize("soft_labels", [0, 3])
def test_exemplars_that_further_classes_would_leave_no_place_are_told_before_anything_is_learned(soft_labels):
    slots = as_kept(LabelledImages(np.concatenate([_noise(2), _flat(4)]), np.array([0] * 2 + [1] * 4)), _CODEC)
    kept = ExemplarStore(slots, _CODEC)
    head = budget.size_of(kept, 2).shared
    smallest = int(_CODEC.num_bytes(slots.images[:2]).min()) + 8 + 4 + 4 * soft_labels
    memory = _memory("png", total_bytes=3 * smallest + head + 8 * soft_labels)
    budget.check_kept(memory, kept, ("ant", "bee"), 3, soft_labels)
    message = (
        rf"once there are 4, but the smallest exemplar that is kept of class 'ant' takes {smallest:,}\. Learn fewer"
    )
    with pytest.raises(UsageError, match=message):
        budget.check_kept(memory, kept, ("ant", "bee"), 4, soft_labels)
    budget.check_kept(memory, kept.of_classes([1]), ("ant", "bee"), 4, soft_labels)
    budget.check_kept(memory, kept.of_classes([]), ("ant", "bee"), 4, soft_labels)


@pytest.mark.parametrize("share", [0.25, 0.5, 0.7])
@pytest.mark.parametrize("large", [(3,), (0,), (4, 8), (2, 5, 6)], ids=str)
def test_real_images_stand_where_they_are_looked_for_when_one_in_the_middle_does_not_fit(share, large):
    # Real images have even first bytes; those that are large do not fit.
    numbers = 2 * np.arange(12) + ~real_slots(np.zeros(12, np.int64), share)
    codes = [bytes([number]) * (900 if place in large else 60) for place, number in enumerate(numbers)]
    slots = LabelledImages(held(codes, format_for("png", 90, (_SIDE, _SIDE, 3))), np.zeros(12, np.int64))
    memory = _memory("png", bytes_per_class=11 * 72)
    kept = budget.fitting(memory, slots, _CODEC, ["ant"], share)
    first = np.array([_first_byte(kept, row) for row in range(len(kept))])
    assert sorted(first) == [number for place, number in enumerate(numbers) if place not in large]
    wanted, is_real = real_slots(kept.labels, share), first % 2 == 0
    if wanted.sum() == is_real.sum():
        np.testing.assert_array_equal(is_real, wanted)
    else:  # there are too few of a kind, and the other one takes its last places
        last = np.flatnonzero(is_real != wanted)
        assert is_real[last].all() or not is_real[last].any()
        assert len(last) == abs(int(wanted.sum()) - int(is_real.sum()))
    for kind in (0, 1):  # each kind in its order
        assert (np.diff(first[first % 2 == kind].astype(int)) > 0).all()


def _first_byte(slots: LabelledImages, row: int) -> int:
    images = slots.images
    return images.files[images.file[row]].code(int(images.offset[row]), 1)[0]
