"""Exemplars that stay the files they came in."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnemonics_tf.checks import UsageError
from mnemonics_tf.data.decoding import in_memory
from mnemonics_tf.data.stored import StoredImages
from mnemonics_tf.data.types import LabelledImages
from mnemonics_tf.memory import budget
from mnemonics_tf.memory.exemplar_file import load_exemplars, read_exemplars, save_exemplars
from mnemonics_tf.memory.pixel_file import PixelFile
from mnemonics_tf.memory.selection import select_random
from mnemonics_tf.memory.settings import Memory
from mnemonics_tf.memory.store import ExemplarStore, as_kept, codec_for, select

_SIDE = 12
_ORDER = np.array([7, 5])  # class ids by index
_NAMES = ("ant", "bee")
_MEMORY = {"strategy": "random", "adjust": False, "codec": "source"}
_EACH = 8 + 4  # bytes of a label and of a length


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> LabelledImages:
    """Ten photographs of two classes in files of several kinds and sizes, one of which has to be turned."""
    folder, generator = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    paths = []
    for number in range(10):
        height, width = generator.integers(15, 60, 2)
        picture = Image.fromarray(generator.integers(0, 256, (height, width, 3), np.uint8))
        paths.append(folder / f"{number}.{('jpg', 'png')[number % 2]}")
        turned = Image.Exif()
        turned[0x0112] = 6 if number == 4 else 1
        picture.save(paths[-1], exif=turned)
    return LabelledImages(StoredImages.of_files([str(path) for path in paths], _SIDE, 14), np.repeat([0, 1], 5))


def _kept(memory: Memory, data: LabelledImages, file: PixelFile | None = None) -> LabelledImages:
    generator = np.random.default_rng(5)
    if memory.counts_bytes:
        chosen = budget.select_fitting(memory, data, None, _NAMES, generator, file)
        return budget.fitting(memory, as_kept(chosen, codec_for(memory), file), codec_for(memory), _NAMES)
    return as_kept(select(memory, data, None, memory.per_class, generator), codec_for(memory), file)


@pytest.mark.parametrize("streamed", [False, True])
def test_files_are_kept_byte_for_byte_and_give_the_images_that_they_gave(data, tmp_path, streamed):
    file = PixelFile(str(tmp_path / "waiting"), (_SIDE, _SIDE, 3)) if streamed else None
    kept = _kept(Memory(**_MEMORY, per_class=3), data, file)
    path = str(tmp_path / "exemplars.npz")
    save_exemplars(path, kept, _ORDER)
    loaded = load_exemplars(path, _ORDER, streamed)
    originals = {Path(name).read_bytes() for name in data.images.files}
    with np.load(path, allow_pickle=False) as arrays:
        pieces = np.split(arrays["codes"], np.cumsum(arrays["lengths"]))
        contents = [piece.tobytes() for piece in pieces[:-1]]
        stored = sum(array.nbytes for array in arrays.values())
        np.testing.assert_array_equal(arrays["labels"], np.repeat(_ORDER, 3))
    assert set(contents) <= originals
    assert [loaded.images.content(row) for row in range(6)] == contents
    assert budget.size_of(ExemplarStore(loaded, codec_for(Memory(**_MEMORY))), 2).total == stored
    squares = in_memory(data).array
    expected = [squares[[content == Path(name).read_bytes() for name in data.images.files]][0] for content in contents]
    np.testing.assert_array_equal(read_exemplars(path).images, expected)
    np.testing.assert_array_equal(in_memory(loaded).array, expected)


def test_as_many_files_are_kept_as_fit_in_the_bytes_of_a_class(data):
    sizes = np.array([Path(name).stat().st_size + _EACH for name in data.images.files])
    limit = int(min(sizes[:5].sum(), sizes[5:].sum())) - 1  # the last one drawn does not fit
    kept = _kept(Memory(**_MEMORY, bytes_per_class=limit), data)
    generator = np.random.default_rng(5)
    for label in range(2):
        drawn = 5 * label + select_random(5, 5, generator)
        count = int((np.cumsum(sizes[drawn]) <= limit).sum())
        assert 1 < count < 5
        found = [kept.images.content(int(row)) for row in np.flatnonzero(kept.labels == label)]
        assert found == [Path(data.images.files[row]).read_bytes() for row in drawn[:count]]
    with pytest.raises(UsageError, match="leaves 50 bytes of a class, but an exemplar of class 'ant' takes"):
        _kept(Memory(**_MEMORY, bytes_per_class=50), data)
    with pytest.raises(UsageError, match="leaves 50 bytes of a class"):
        budget.check_first_images(Memory(**_MEMORY, bytes_per_class=50), data, _NAMES, 2)


def test_file_that_changes_or_is_damaged_is_named(data, tmp_path):
    name = str(tmp_path / "photograph.png")
    file = io.BytesIO()
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(file, "png")
    Path(name).write_bytes(file.getvalue())
    one = LabelledImages(StoredImages.of_files([name], _SIDE), np.zeros(1, np.int64))
    path = str(tmp_path / "exemplars.npz")
    save_exemplars(path, one, _ORDER)
    damaged = tmp_path / "damaged.npz"
    with np.load(path) as arrays:
        codes = np.frombuffer(file.getvalue().replace(b"IDAT", b"IDAX"), np.uint8)
        np.savez(damaged, **{**arrays, "codes": codes})
    with pytest.raises(UsageError, match=r"damaged\.npz: exemplar 0 of class 7 is damaged \(.+\)\. Take a copy"):
        read_exemplars(str(damaged))
    with np.load(path) as arrays:
        np.savez(damaged, **{**arrays, "source": arrays["source"] + [1, 0, 0, 0, 0]})
    with pytest.raises(UsageError, match="kept in form 2"):
        read_exemplars(str(damaged))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strategy": "mnemonics"}, "with strategy = 'mnemonics': pixels that were learned are no file"),
        ({"adjust": True}, "with adjust = True: pixels that were learned are no file"),
        ({"code_new": 0.5}, "files that stay as they came are not coded"),
        ({"low_resolution": 2}, "with codec = 'source'"),
    ],
)
def test_settings_that_need_pixels_are_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        Memory(**{**_MEMORY, **settings})


def test_data_without_files_cannot_be_kept_as_files():
    Memory(**_MEMORY).check_place(streamed=True)
    with pytest.raises(UsageError, match=r"Set in_memory = False of a folder"):
        Memory(**_MEMORY).check_place(streamed=False)
