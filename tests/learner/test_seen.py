"""Images are told by their content: what becomes of each does not depend on when, with what or where it comes."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnemonics_tf.checks import UsageError
from mnemonics_tf.data.stored import StoredImages
from mnemonics_tf.data.types import ImageTraits
from mnemonics_tf.learner.arrivals import Intake, side_for
from mnemonics_tf.learner.news import News, named, news_of, seen_with
from mnemonics_tf.learner.seen import MOST_KEPT, SeenImages, load_seen, save_seen
from mnemonics_tf.learner.state import ClassTable

_SHARE = 0.25
_TRAITS = ImageTraits((8, 8, 3), True, 1)


def _write(root: Path, name: str, numbers: range) -> None:
    (root / name).mkdir(parents=True, exist_ok=True)
    for number in numbers:
        seed = [number, *name.encode()]
        pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(root / name / f"{number}.png")


class _Student:
    """Sees what is new in folders, as a learner does, and learns nothing of it."""

    def __init__(self) -> None:
        self.classes, self.seen = ClassTable(), SeenImages()

    def look(self, root: Path) -> News:
        return news_of(str(root), Intake(self.classes, _TRAITS, None), self.seen, _SHARE)

    def see(self, root: Path) -> News:
        news = self.look(root)
        grown = self.classes.grown(*named(news.train).new_classes(self.classes))
        self.seen = seen_with(self.seen, news, grown)
        self.classes = grown
        return news

    @property
    def splits(self) -> dict[bytes, tuple[str, bool]]:
        """Class and split of each image, by its checksum."""
        rows = zip(self.seen.digests, self.seen.labels, self.seen.is_held_out, strict=True)
        return {digest.tobytes(): (self.classes.names[label], bool(out)) for digest, label, out in rows}


@pytest.fixture
def zoo(tmp_path) -> Path:
    for name in ("ant", "bee", "cat", "dog"):
        _write(tmp_path / "zoo", name, range(12))
    return tmp_path / "zoo"


@pytest.fixture
def student(zoo) -> _Student:
    student = _Student()
    student.see(zoo)
    return student


def test_three_arrivals_end_as_one(zoo, student, tmp_path):
    parts = ({"ant": range(12), "bee": range(5)}, {"bee": range(5, 12), "cat": range(3)}, {"cat": range(3, 12)})
    later = _Student()
    for place, part in enumerate(parts):
        for name, numbers in part.items():
            _write(tmp_path / str(place), name, numbers)
        later.see(tmp_path / str(place))
    _write(tmp_path / "2", "dog", range(12))
    later.see(tmp_path / "2")
    assert later.classes.names == student.classes.names == ("ant", "bee", "cat", "dog")
    assert later.classes.ids == student.classes.ids
    assert later.splits == student.splits
    assert sorted(map(bytes, later.seen.held_out.array)) == sorted(map(bytes, student.seen.held_out.array))


def test_share_is_held_out_by_the_content_of_files_alone(zoo, student):
    # The first 8 bytes of the SHA-256 of the file, as a number in 0..1.
    expected = {}
    for path in zoo.glob("*/*.png"):
        digest = hashlib.sha256(path.read_bytes()).digest()
        expected[digest[:16]] = (path.parent.name, int.from_bytes(digest[:8], "big") / 2**64 < _SHARE)
    assert student.splits == expected
    assert 2 < sum(out for _, out in expected.values()) < 24  # of 48


def test_what_was_seen_is_not_new_wherever_it_lies(zoo, student, tmp_path):
    assert not len(student.look(zoo))
    shutil.copytree(zoo, tmp_path / "copy")
    for path in (tmp_path / "copy").glob("*/*.png"):
        path.rename(path.with_name(f"x{path.name}"))
    news = student.look(tmp_path / "copy")
    assert (len(news), news.num_seen, news.notices) == (0, 48, ())
    assert str(news) == f"Nothing is new in {tmp_path}/copy: 48 images that were seen before."


def test_more_images_of_a_known_class_change_no_split(zoo, student):
    before = student.splits
    _write(zoo, "bee", range(12, 40))
    news = student.see(zoo)
    assert (news.new_classes, news.classes, len(news)) == ((), ("bee",), 28)
    assert student.splits.items() >= before.items()


def test_folder_need_not_hold_what_was_seen(zoo, student, tmp_path):
    _write(tmp_path / "next", "elk", range(12))
    (tmp_path / "next/bee").mkdir()  # its images are gone
    news = student.see(tmp_path / "next")
    assert news.notices == ("There is no image in 'bee': what was learned of it stays.",)
    assert student.classes.names == ("ant", "bee", "cat", "dog", "elk")


def test_renamed_class_keeps_its_name(zoo, student):
    (zoo / "cat").rename(zoo / "puma")
    news = student.look(zoo)
    assert not len(news)
    assert news.notices == ("'puma' holds the images that were learned as 'cat', which keeps its name.",)


def test_renamed_class_with_more_images_is_told_before_it_becomes_a_second_one(zoo, student):
    (zoo / "cat").rename(zoo / "puma")
    _write(zoo, "puma", range(12, 20))
    news = student.look(zoo)
    assert news.new_classes == ("puma",)
    (line,) = news.notices
    assert line.startswith("12 images in 'puma' were learned as 'cat' and stay that (such as ")
    assert line.endswith("). If all of 'puma' is 'cat', call the folder so.")


def test_moved_images_stay_what_they_were(zoo, student):
    (zoo / "ant/3.png").rename(zoo / "dog/ant3.png")
    news = student.look(zoo)
    assert not len(news)
    (line,) = news.notices
    assert line == f"1 image in 'dog' was learned as 'ant' and stays that (such as {zoo}/dog/ant3.png)."


def test_image_in_two_new_classes_is_left_out_and_a_copy_counts_once(tmp_path):
    for name in ("ant", "bee"):
        _write(tmp_path, name, range(6))
    shutil.copy(tmp_path / "ant/1.png", tmp_path / "ant/copy.png")
    shutil.copy(tmp_path / "ant/2.png", tmp_path / "bee/ant2.png")
    news = _Student().look(tmp_path)
    assert len(news) == 11
    assert news.notices == (f"1 image lies in two classes and is left out (such as {tmp_path}/ant/2.png).",)


def test_folders_train_and_test_are_the_split(tmp_path):
    for split, numbers in (("train", range(6)), ("test", range(6, 9))):
        for name in ("ant", "bee"):
            _write(tmp_path / split, name, numbers)
    shutil.copy(tmp_path / "train/ant/0.png", tmp_path / "test/ant/leaked.png")
    news = _Student().look(tmp_path)
    assert (len(news.train), len(news.test)) == (12, 6)


def test_class_of_few_images_is_learned_from_all_of_them_if_none_would_be_left(tmp_path):
    numbers = (n for n in range(100) if _held_out(tmp_path / "probe", n))
    first = next(numbers)
    _write(tmp_path / "zoo", "ant", range(first, first + 1))
    _write(tmp_path / "zoo", "bee", range(6))
    student = _Student()
    student.see(tmp_path / "zoo")
    assert [out for name, out in student.splits.values() if name == "ant"] == [False]


def _held_out(root: Path, number: int) -> bool:
    _write(root, "ant", range(number, number + 1))
    digest = hashlib.sha256((root / f"ant/{number}.png").read_bytes()).digest()
    return digest[0] < 64  # below a quarter


def test_unreadable_images_are_left_out_and_new_once_they_are_mended(zoo, student, capfd):
    (zoo / "ant/bad.png").write_bytes(b"no picture")
    assert not len(student.see(zoo))
    assert f"{zoo}/ant/bad.png" in capfd.readouterr().err
    Image.new("RGB", (8, 8)).save(zoo / "ant/bad.png")
    assert len(student.look(zoo)) == 1


def test_class_whose_only_image_to_measure_by_is_damaged_is_learned(tmp_path):
    _write(tmp_path / "zoo", "bee", range(12))
    _write(tmp_path / "zoo", "ant", range(8))
    # No picture, and its checksum holds it out.
    bad = next(text for n in range(100) if hashlib.sha256(text := b"no picture %d" % n).digest()[0] < 64)
    for path in (tmp_path / "zoo/ant").iterdir():
        if hashlib.sha256(path.read_bytes()).digest()[0] < 64:
            path.unlink()
    (tmp_path / "zoo/ant/bad.png").write_bytes(bad)
    news = _Student().look(tmp_path / "zoo")
    assert {news.train.images.names[label] for label in news.train.images.labels} == {"ant", "bee"}
    assert "ant" not in {news.test.images.names[label] for label in news.test.images.labels}


def test_new_class_of_which_all_but_what_is_damaged_would_be_held_out_is_learned(tmp_path):
    _write(tmp_path / "zoo", "bee", range(12))
    held_out = [n for n in range(100) if _held_out(tmp_path / "probe", n)][:2]
    for number in held_out:
        _write(tmp_path / "zoo", "ant", range(number, number + 1))
    bad = next(text for n in range(100) if hashlib.sha256(text := b"no picture %d" % n).digest()[0] >= 64)
    (tmp_path / "zoo/ant/bad.png").write_bytes(bad)
    news = _Student().look(tmp_path / "zoo")
    names = news.train.images.names
    assert sorted(names[label] for label in news.train.images.labels if names[label] == "ant") == ["ant", "ant"]
    assert "ant" not in {names[label] for label in news.test.images.labels}
    assert len(news.train) == len(news.train.images.images) == len(news.train.digests)
    np.testing.assert_array_equal(news.train.images.labels, np.sort(news.train.images.labels))


def test_pipe_in_the_place_of_an_image_is_not_waited_for(zoo, capfd):
    def give_up(*_):
        raise AssertionError("waits for somebody who writes to the pipe")

    os.mkfifo(zoo / "ant/0.jpg")
    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(60)
    try:
        assert side_for([str(zoo / "ant/0.jpg")]) == 32  # of images of which none can be read
        assert len(_Student().look(zoo)) == 48
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert f"{zoo}/ant/0.jpg: not a file (a broken link, or a pipe)" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "there is no such folder"),
        (lambda root: _write(root, "ant", range(4)), "There is one class, 'ant'"),
        (lambda root: (_write(root, "ant", range(4)), (root / "bee").mkdir()), "no image in 'bee'"),
        (lambda root: (_write(root, "ant", range(4)), _write(root, "Ant", range(4))), "differ only by case"),
        (
            lambda root: (_write(root, "ant", range(4)), (root / "bee").mkdir(), (root / "bee/1.png").write_bytes(b"")),
            "No new image of 'bee' can be read",
        ),
    ],
)
def test_folders_that_cannot_be_learned_are_refused(tmp_path, make, message):
    make(tmp_path / "zoo")
    with pytest.raises(UsageError, match=message):
        _Student().look(tmp_path / "zoo")


def test_images_to_measure_by_are_bounded_and_do_not_depend_on_their_order(tmp_path):
    generator = np.random.default_rng(0)
    count = MOST_KEPT + 20
    digests = generator.integers(0, 256, (count, 16), np.uint8)
    pixels = generator.integers(0, 256, (count, 2, 2, 3), np.uint8)
    once = SeenImages().joined(digests, np.zeros(count), pixels)
    parts = SeenImages()
    for rows in np.array_split(generator.permutation(count), 3):
        parts = parts.joined(digests[rows], np.zeros(len(rows)), pixels[rows])
    lowest = sorted(range(count), key=lambda row: digests[row].tobytes())[:MOST_KEPT]
    for row in lowest:  # images in files that are not kept are not even read
        Image.fromarray(pixels[row]).save(tmp_path / f"{row}.png")
    stored = StoredImages.of_files([str(tmp_path / f"{row}.png") for row in range(count)], 2)
    for seen in (once, parts, SeenImages().joined(digests, np.zeros(count), stored)):
        assert (len(seen), seen.is_held_out.all()) == (count, True)
        np.testing.assert_array_equal(seen.held_out.array, pixels[lowest])


def test_file_gives_back_what_was_seen_and_forgotten_classes_close_up(student, tmp_path):
    order = np.array([7, 3, 9, 1])
    save_seen(str(tmp_path), student.seen, order)
    read = load_seen(str(tmp_path), order[::-1])  # ids are in the file, indices in memory
    np.testing.assert_array_equal(read.labels, 3 - student.seen.labels)
    np.testing.assert_array_equal(read.held_out.array, student.seen.held_out.array)
    fewer = student.seen.without({1}, 4)
    kept = student.seen.labels != 1
    np.testing.assert_array_equal(fewer.digests, student.seen.digests[kept])
    np.testing.assert_array_equal(fewer.labels, np.array([0, 9, 1, 2])[student.seen.labels[kept]])
    before, now = student.seen.held_out, fewer.held_out
    np.testing.assert_array_equal(now.array, before.array[before.labels != 1])
    np.testing.assert_array_equal(now.labels, np.array([0, 9, 1, 2])[before.labels[before.labels != 1]])


def test_learner_that_has_seen_nothing_has_no_file(tmp_path):
    save_seen(str(tmp_path), SeenImages(), np.arange(2))
    assert not list(tmp_path.iterdir())
    assert len(load_seen(str(tmp_path), np.arange(2))) == 0
