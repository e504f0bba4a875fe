"""Memories of coded images and of so many bytes: what fits, what is counted, what is filed."""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnemonics_tf.checks import UsageError
from mnemonics_tf.data.stored import StoredImages
from mnemonics_tf.data.types import LabelledImages
from mnemonics_tf.memory import budget
from mnemonics_tf.memory.codecs import Coded, Mosaic
from mnemonics_tf.memory.coded import format_of_rows, held, round_trip
from mnemonics_tf.memory.exemplar_file import load_exemplars, read_exemplars, save_exemplars
from mnemonics_tf.memory.formats import format_for
from mnemonics_tf.memory.pixel_file import PixelFile
from mnemonics_tf.memory.selection import select_herding
from mnemonics_tf.memory.settings import Memory
from mnemonics_tf.memory.store import ExemplarStore, as_kept, codec_for, select

_SHAPE = (10, 10, 3)
_ORDER = np.array([7, 5, 6])  # class ids by index
_NAMES = ("ant", "bee", "cat")
_EACH = 8 + 4  # bytes of a label and of a length


def _data(labels=(2, 0, 1) * 30, seed: int = 0) -> LabelledImages:
    """Images of very different sizes once they are coded: from flat to noisy."""
    generator = np.random.default_rng(seed)
    scale = generator.uniform(0, 60, (len(labels), 1, 1, 1))
    images = np.clip(generator.normal(128, scale, (len(labels), *_SHAPE)), 0, 255).astype(np.uint8)
    return LabelledImages(images, np.array(labels, np.int64))


def _generator() -> np.random.Generator:
    return np.random.default_rng(5)


def _memory(**settings) -> Memory:
    return Memory(**{"strategy": "random", "adjust": False, "codec": "jpeg", "quality": 60, **settings})


def _kept(memory: Memory, data: LabelledImages, features=None, file: PixelFile | None = None) -> LabelledImages:
    chosen = budget.select_fitting(memory, data, features, _NAMES, _generator(), file)
    return budget.fitting(memory, as_kept(chosen, codec_for(memory), file), codec_for(memory), _NAMES)


def _code_sizes(images: np.ndarray) -> list[int]:
    """Bytes of each image as a JPEG of Pillow's without the head, which ends with the fixed last bytes of its scan."""
    sizes = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "jpeg", quality=60, subsampling=0)
        content = file.getvalue()
        sizes.append(len(content) - content.index(b"\x00\x3f\x00", 400) - 3 - 2)
    return sizes


def test_a_class_keeps_the_first_images_that_fit():
    data, features = _data(), np.random.default_rng(1).normal(size=(90, 5))
    kept = _kept(_memory(strategy="herding", bytes_per_class=2000), data, features)
    form = format_of_rows(kept.images)
    for label in range(3):
        members = np.flatnonzero(data.labels == label)
        ordered = members[select_herding(features[members], 30)]
        used, expected = 0, []
        for member, size in zip(ordered, _code_sizes(data.array[ordered]), strict=True):
            if used + size + _EACH > 2000:
                break
            used, expected = used + size + _EACH, [*expected, member]
        assert 2 < len(expected) < 30
        found = kept.take(kept.labels == label)
        assert found.images.length.sum() + _EACH * len(found) == used
        for row, member in enumerate(expected):
            pixels = np.frombuffer(found.images.content(row), np.uint8).reshape(_SHAPE)
            np.testing.assert_array_equal(pixels, form.decode(form.encode(data.images[member])))


def test_more_bytes_keep_more_of_the_same_random_order():
    few, many, all_of_them = (_kept(_memory(bytes_per_class=size), _data()) for size in (700, 2000, 10**6))
    assert len(few) < len(many) < len(all_of_them) == 90
    for label in range(3):
        first, more = (
            [r.images.content(i) for i in range(len(r))] for r in (few.of_classes([label]), many.of_classes([label]))
        )
        assert more[: len(first)] == first


def test_mosaics_of_floats_are_reckoned_as_floats():
    data = _data(labels=(0,) * 30)
    memory = _memory(codec="raw", low_resolution=2, store_floats=True, bytes_per_class=4000)
    assert budget.check_first_images(memory, data, _NAMES[:1], 1) == 3  # 4 bytes of 300 values, and a label
    assert len(_kept(memory, data)) == 3


def test_total_budget_is_shared_evenly_and_drops_the_last():
    memory, codec = _memory(total_bytes=6000), Coded("jpeg", 60)
    two = LabelledImages(*(each[np.isin(_data().labels, [0, 1])] for each in (_data().array, _data().labels)))
    early = budget.select_fitting(memory, two, None, _NAMES[:2], _generator())
    late = budget.fitting(memory, early, codec, _NAMES)
    shared = len(codec.format(_SHAPE).head) + 6 * 4
    for names, slots in ((_NAMES[:2], early), (_NAMES, late)):
        size = budget.size_of(ExemplarStore(slots, codec), len(names))
        share = (6000 - shared) // len(names)
        assert size.shared == shared
        assert (size.by_class[:2] <= share).all()
        assert (size.by_class[:2] > share - 400).all()  # no further one would have fitted
        assert size.total <= 6000
    for label in (0, 1):
        before, after = early.of_classes([label]), late.of_classes([label])
        assert len(after) < len(before)
        codes = [[s.images.content(row) for row in range(len(after))] for s in (before, after)]
        assert codes[0] == codes[1]


@pytest.mark.parametrize(
    ("settings", "slot"),
    [
        ({"codec": "raw"}, 300),
        ({"codec": "raw", "store_floats": True}, 300),
        ({"codec": "raw", "low_resolution": 2}, 300),
    ],
)
def test_bytes_of_pixels_are_a_number_of_exemplars(settings, slot):
    memory = _memory(**settings, bytes_per_class=5 * (slot + 8) + 7)
    kept = _kept(memory, _data())
    assert np.bincount(kept.labels).tolist() == [5, 5, 5]
    # The factor of mosaics is filed, too.
    total = 15 * (slot + 8) + 8 * ("low_resolution" in settings)
    assert budget.size_of(ExemplarStore(kept, codec_for(memory)), 3).total == total


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("codec", ["raw", "png", "webp", "jpeg"])
def test_what_is_counted_is_what_the_file_holds(codec, soft, tmp_path):
    memory = _memory(codec=codec, per_class=20)
    kept = as_kept(select(memory, _data(), None, 4, _generator()), codec_for(memory))
    if soft:
        kept = LabelledImages(kept.images, kept.labels, np.full((12, 3), 1 / 3, np.float32))
    save_exemplars(str(tmp_path / "e.npz"), kept, _ORDER)
    with np.load(tmp_path / "e.npz", allow_pickle=False) as arrays:
        assert ("images" in arrays) == (codec == "raw")
        total = sum(arrays[name].nbytes for name in arrays)
    size = budget.size_of(ExemplarStore(kept, codec_for(memory)), 3)
    assert size.total == total
    assert len(size.by_class) == 3


@pytest.mark.parametrize("shape", [(8, 8, 1), (6, 10, 3)])
@pytest.mark.parametrize("codec", ["png", "webp", "jpeg"])
def test_file_comes_back_as_codes_and_as_images(codec, shape, tmp_path):
    path = str(tmp_path / "e.npz")
    images = np.random.default_rng(0).integers(0, 256, (6, *shape), np.uint8)
    data, memory = LabelledImages(images, np.array([0, 0, 1, 1, 1, 2])), _memory(codec=codec)
    kept = as_kept(data, codec_for(memory))
    save_exemplars(path, kept, _ORDER)
    expected = round_trip(images, format_for(codec, 60, shape))
    assert (codec == "png") == (expected == images).all()
    # Without any setting.
    found = read_exemplars(path)
    np.testing.assert_array_equal(found.images, expected)
    np.testing.assert_array_equal(found.labels, [7, 7, 5, 5, 5, 6])
    again = str(tmp_path / "again.npz")
    for streamed in (False, True):
        loaded = load_exemplars(path, _ORDER, streamed)
        assert format_of_rows(loaded.images) == format_of_rows(kept.images)
        np.testing.assert_array_equal(loaded.labels, data.labels)
        shown = ExemplarStore(loaded, codec_for(memory)).decoded()
        assert isinstance(shown.images, StoredImages) == streamed
        np.testing.assert_array_equal(
            [np.frombuffer(loaded.images.content(row), np.uint8).reshape(shape) for row in range(6)], expected
        )
        # Codes are not coded again.
        save_exemplars(again, as_kept(loaded, codec_for(memory)), _ORDER)
        assert Path(again).read_bytes() == Path(path).read_bytes()


def test_raw_files_and_mosaics_are_read_as_images(tmp_path):
    path, images = str(tmp_path / "e.npz"), _data().array[:8]
    save_exemplars(path, LabelledImages(images, np.array([0] * 8)), _ORDER)
    np.testing.assert_array_equal(read_exemplars(path).images, images)
    flat = np.broadcast_to(np.arange(8, dtype=np.float32)[:, None, None, None] * 30, (8, *_SHAPE))
    slots = Mosaic(factor=2).encode(flat).astype(np.uint8)
    save_exemplars(path, LabelledImages(slots, np.array([2, 1])), _ORDER, Mosaic(factor=2))
    found = read_exemplars(path)
    np.testing.assert_array_equal(found.images, flat)
    np.testing.assert_array_equal(found.labels, [6] * 4 + [5] * 4)


def _with_first_codes_damaged(path: Path) -> None:
    """Overwrites the third code, within an archive whose checksums are right."""
    with np.load(path) as arrays:
        found = dict(arrays)
    start, end = found["lengths"][:2].sum(), found["lengths"][:3].sum()
    found["codes"][start:end] = 1
    np.savez(path, **found)


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": np.zeros(3, np.int64)},
        {"labels": np.array(["a", "b"])},
        {"images": np.zeros((2, 4), np.uint8)},
        {"images": np.zeros((2, 0, 4, 3), np.uint8)},
        {"images": np.full((2, 4, 4, 3), np.nan, np.float32)},
    ],
    ids=["number of labels", "names", "no pixels", "no height", "floats"],
)
def test_file_of_what_are_no_exemplars_is_damaged(tmp_path, changes):
    path = tmp_path / "e.npz"
    arrays = {"images": np.zeros((2, 4, 4, 3), np.uint8), "labels": np.zeros(2, np.int64)}
    np.savez(path, **arrays)
    assert len(read_exemplars(path).images) == 2
    np.savez(path, **{**arrays, **changes})
    with pytest.raises(UsageError, match=r"e\.npz is damaged: .* Take a copy of it"):
        read_exemplars(path)


def test_damaged_image_is_named_by_class_and_number(tmp_path):
    path, memory = tmp_path / "e.npz", _memory(codec="webp")
    kept = as_kept(LabelledImages(_data().array[:4], np.array([0, 1, 1, 2])), codec_for(memory))
    save_exemplars(str(path), kept, _ORDER)
    _with_first_codes_damaged(path)
    with pytest.raises(
        UsageError, match=r"e\.npz: exemplar 1 of class 5 is damaged \(.*\)\. Take a copy of it, or delete"
    ):
        read_exemplars(path)
    rows = load_exemplars(str(path), _ORDER, streamed=True).images
    with pytest.raises(OSError, match=r"e\.npz at byte \d+: the coded image is damaged"):
        rows.content(2)
    path.write_bytes(path.read_bytes()[:-300])
    for broken in (path, tmp_path / "none.npz"):
        with pytest.raises(UsageError, match=r"is damaged: .* Take a copy of it"):
            read_exemplars(broken)


def test_codes_of_a_streamed_set_wait_in_a_file(tmp_path):
    memory, file = _memory(bytes_per_class=2000), PixelFile(str(tmp_path / "wait"), _SHAPE)
    in_memory, waiting = _kept(memory, _data()), _kept(memory, _data(), file=file)
    assert format_of_rows(waiting.images) == format_of_rows(in_memory.images)
    for row in range(len(in_memory)):
        assert waiting.images.content(row) == in_memory.images.content(row)
    # Pixels that were learned there are coded, and go behind.
    learned = LabelledImages(file.append(_data().array[:3]), np.zeros(3, np.int64))
    coded = as_kept(learned.join(waiting), codec_for(memory), file)
    expected = as_kept(LabelledImages(_data().array[:3], learned.labels), codec_for(memory))
    assert [coded.images.content(row) for row in range(3)] == [expected.images.content(row) for row in range(3)]
    assert coded.images.content(5) == waiting.images.content(2)


def test_images_that_cannot_be_read_are_no_reason_to_refuse_a_budget(tmp_path):
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "good.png").write_bytes(
        format_for("png", 90, _SHAPE).file(format_for("png", 90, _SHAPE).encode(_data().array[0]))
    )
    stored = StoredImages.of_files([str(tmp_path / name) for name in ("none.png", "empty.png", "good.png")], 10)
    data = LabelledImages(stored, np.array([0, 1, 1]))
    assert budget.check_first_images(_memory(bytes_per_class=10**6), data, _NAMES, 3) > 100
    with pytest.raises(UsageError, match="of class 'bee' takes"):
        budget.check_first_images(_memory(bytes_per_class=30), data, _NAMES, 3)


def test_images_that_are_learned_are_chosen_uncoded_and_fit_in_the_end():
    memory = _memory(strategy="mnemonics", bytes_per_class=2000)
    data = _data()
    chosen = budget.select_fitting(memory, data, None, _NAMES, _generator())
    pool = {image.tobytes() for image in data.array}
    assert all(image.tobytes() in pool for image in chosen.array)
    noisy = np.random.default_rng(2).uniform(0, 255, chosen.array.shape).astype(np.float32)
    kept = budget.fitting(
        memory, as_kept(LabelledImages(noisy, chosen.labels), Coded("jpeg", 60)), Coded("jpeg", 60), _NAMES
    )
    assert 0 < len(kept) < len(chosen)
    assert budget.size_of(ExemplarStore(kept, Coded("jpeg", 60)), 3).by_class.max() <= 2000


def test_exemplars_that_become_floats_take_four_times_the_bytes():
    memory = _memory(strategy="mnemonics", codec="raw", store_floats=True, bytes_per_class=5 * 1208)
    chosen = budget.select_fitting(memory, _data(), None, _NAMES, _generator())
    kept = as_kept(LabelledImages(chosen.array.astype(np.float32), chosen.labels), codec_for(memory))
    assert budget.size_of(ExemplarStore(kept, codec_for(memory)), 3).by_class.tolist() == [5 * 1208] * 3


def test_soft_labels_take_their_share():
    slots = as_kept(_data(), Coded("jpeg", 60))
    soft = LabelledImages(slots.images, slots.labels, np.full((90, 3), 1 / 3, np.float32))
    memory, codec = _memory(bytes_per_class=2000), Coded("jpeg", 60)
    assert len(budget.fitting(memory, soft, codec, _NAMES)) < len(budget.fitting(memory, slots, codec, _NAMES))
    assert budget.size_of(ExemplarStore(budget.fitting(memory, soft, codec, _NAMES), codec), 3).by_class.max() <= 2000


@pytest.mark.parametrize("codec", ["raw", "jpeg"])
def test_soft_labels_that_will_be_learned_take_their_share_before_they_are(codec):
    # Raw: 300 bytes, 8 of a label, and 4 a class of a soft label.
    memory = _memory(strategy="mnemonics", codec=codec, bytes_per_class=2 * 320)
    chosen = budget.select_fitting(memory, _data(), None, _NAMES, _generator(), soft_labels=3)
    soft = LabelledImages(chosen.images, chosen.labels, np.full((len(chosen), 3), 1 / 3, np.float32))
    kept = budget.fitting(memory, as_kept(soft, codec_for(memory)), codec_for(memory), _NAMES)
    assert len(kept) == len(chosen) >= 2 * 3
    assert budget.check_first_images(memory, _data(), _NAMES, 3, soft_labels=3) >= 2
    without = budget.select_fitting(memory, _data(), None, _NAMES, _generator())
    assert len(without) == (6 if codec == "raw" else len(without)) >= len(chosen)
    few = _memory(strategy="mnemonics", codec=codec, bytes_per_class=319 if codec == "raw" else 30)
    message = r"with a soft label of 3 classes\. Raise it.*, or set ExemplarLevel.learn_labels = False"
    with pytest.raises(UsageError, match=message):
        budget.check_first_images(few, _data(), _NAMES, 3, soft_labels=3)
    with pytest.raises(UsageError, match=message):
        budget.select_fitting(few, _data(), None, _NAMES, _generator(), soft_labels=3)
    # In all: the class id of each column is shared.
    total = _memory(strategy="mnemonics", codec="raw", total_bytes=3 * 320 + 3 * 8)
    assert len(budget.select_fitting(total, _data(), None, _NAMES, _generator(), soft_labels=3)) == 3
    fewer = _memory(strategy="mnemonics", codec="raw", total_bytes=3 * 320 + 3 * 8 - 1)
    with pytest.raises(UsageError, match=message):
        budget.select_fitting(fewer, _data(), None, _NAMES, _generator(), soft_labels=3)


@pytest.mark.parametrize("codec", ["raw", "webp"])
def test_budget_too_small_for_one_image_is_refused_before_and_after(codec):
    memory, data = _memory(codec=codec, bytes_per_class=30), _data([0, 1, 2] * 3)
    message = (
        r"bytes_per_class = 30 leaves 30 bytes of a class, but an exemplar of class 'ant' takes \d+ with its label"
    )
    with pytest.raises(UsageError, match=message):
        budget.check_first_images(memory, data, _NAMES, 3)
    with pytest.raises(UsageError, match=r"30 leaves 30 bytes of a class, but an exemplar"):
        _kept(memory, data)
    with pytest.raises(UsageError, match=message):
        budget.fitting(memory, as_kept(data, codec_for(memory)), codec_for(memory), _NAMES)
    total = _memory(codec=codec, total_bytes=3)
    with pytest.raises(UsageError, match=r"total_bytes = 3 leaves . bytes of a class"):
        budget.check_first_images(total, data, _NAMES, 3)
    assert budget.check_first_images(_memory(codec="raw", bytes_per_class=1000), data, _NAMES, 3) == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"codec": "gif"}, r"codec = 'gif': expected one of 'raw', 'png', 'webp', 'jpeg'"),
        ({"quality": 0}, r"quality = 0: expected a whole number"),
        ({"quality": 101}, r"quality = 101: expected a whole number from 1 to 100"),
        ({"bytes_per_class": 0}, r"bytes_per_class = 0: expected a whole number"),
        ({"total_bytes": 2.5}, r"total_bytes = 2.5: expected a whole number"),
        ({"code_new": 1.5}, r"code_new = 1.5: expected a number from 0 to 1"),
        ({"code_new": 0.5, "codec": "raw"}, r"code_new = 0.5: raw pixels are not coded"),
        ({"code_new": 0.5, "codec": "png"}, r"code_new = 0.5: PNG gives back the same pixels"),
        ({"code_new": 0.5, "per_class": 0}, r"code_new = 0.5: no exemplar is kept .* Leave code_new out"),
        ({"code_initial_phase": False}, r"code_initial_phase = False: no new image is coded .* Set .*code_new"),
        ({"code_new": 0.5, "code_initial_phase": 0}, r"code_initial_phase = 0: expected True or False"),
        ({"store_floats": True}, r"store_floats = True with codec = 'jpeg': .* Leave store_floats out"),
        ({"low_resolution": 2}, r"low_resolution = 2 with codec = 'jpeg': .* Leave low_resolution out"),
        ({"bytes_per_class": 9, "total_bytes": 9}, r"bytes_per_class = 9 and .*total_bytes = 9: .* one budget"),
        ({"bytes_per_class": 9, "total": 9}, r"bytes_per_class = 9 and ExemplarMemory.total = 9: .* one budget"),
        ({"total_bytes": 9, "per_class": 9}, r"total_bytes = 9 and ExemplarMemory.per_class = 9: .* one budget"),
    ],
    ids=str,
)  # fmt: skip
def test_contradictions_are_refused_in_one_line(settings, message):
    with pytest.raises(UsageError, match=message) as caught:
        _memory(**settings)
    assert "\n" not in str(caught.value)


def test_modes_and_streamed_sets():
    assert _memory(bytes_per_class=61_440).mode == "bytes_per_class_61440"
    assert _memory(total_bytes=600_000).mode == "total_bytes_600000"
    assert _memory(total_bytes=600_000).share(10, 300) == 59_970
    _memory().check_place(streamed=True)
    with pytest.raises(UsageError, match=r"code_new = 0.5: of a data set that is streamed .* Set code_new = 0"):
        _memory(code_new=0.5).check_place(streamed=True)
    Memory(strategy="herding", total_bytes=9, discard="herding")


def test_archive_is_the_same_every_time_and_not_compressed(tmp_path):
    memory = _memory(per_class=20)
    for name in ("first", "second"):
        save_exemplars(str(tmp_path / name), as_kept(_data(), codec_for(memory)), _ORDER)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
    with zipfile.ZipFile(tmp_path / "first") as archive:
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}


def test_no_codes_are_no_bytes():
    nothing = held([], format_for("jpeg", 60, _SHAPE))
    assert nothing.shape == (0, *_SHAPE)
    empty = ExemplarStore.empty(_SHAPE, Coded("jpeg", 60))
    assert (empty.num_bytes, budget.size_of(empty, 2).total, math.prod(empty.decoded().images.shape)) == (0, 0, 0)
