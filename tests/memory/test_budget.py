"""The exemplar memory: budgets, selection, discarding and the file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from mnemonics_tf.checks import UsageError
from mnemonics_tf.data.stored import StoredImages
from mnemonics_tf.data.types import LabelledImages
from mnemonics_tf.memory.codecs import decoded
from mnemonics_tf.memory.exemplar_file import load_exemplars, save_exemplars
from mnemonics_tf.memory.selection import real_slots
from mnemonics_tf.memory.settings import Memory
from mnemonics_tf.memory.store import as_kept, codec_for, select, shrink

# Class ids by index; neither the identity nor its own inverse, so that a mix-up of ids and indices shows.
_CLASS_ORDER = np.array([3, 0, 4, 1, 2])


def _exemplars(labels, dtype=np.uint8, seed: int = 0) -> LabelledImages:
    """Images `[n, 2, 3, 1]`, all different."""
    labels = np.asarray(labels, np.int64)
    images = np.random.default_rng(seed).permutation(len(labels) * 6).reshape(-1, 2, 3, 1)
    return LabelledImages(images.astype(dtype), labels)


def _generator() -> np.random.Generator:
    return np.random.default_rng(0)


def test_file_holds_bytes_and_class_ids_and_needs_no_pickle(tmp_path):
    path = str(tmp_path / "exemplars.npz")
    exemplars = _exemplars([0, 0, 1, 2, 4])
    save_exemplars(path, exemplars, _CLASS_ORDER)
    with np.load(path, allow_pickle=False) as arrays:
        assert set(arrays) == {"images", "labels"}
        assert arrays["images"].dtype == np.uint8
        assert arrays["labels"].dtype == np.int64
        np.testing.assert_array_equal(arrays["images"], exemplars.images)
        # Indices 0, 1, 2 and 4 stand for the ids 3, 0, 4 and 2.
        np.testing.assert_array_equal(arrays["labels"], [3, 3, 0, 4, 2])


def test_file_gives_back_the_same_images_and_indices(tmp_path):
    path = str(tmp_path / "exemplars.npz")
    exemplars = _exemplars([0, 1, 2, 3, 4, 2, 0])
    save_exemplars(path, exemplars, _CLASS_ORDER)
    loaded = load_exemplars(path, _CLASS_ORDER)
    assert loaded.images.dtype == np.uint8
    np.testing.assert_array_equal(loaded.images, exemplars.images)
    np.testing.assert_array_equal(loaded.labels, exemplars.labels)


def test_float_exemplars_come_back_unrounded_and_lie_rounded_beside(tmp_path):
    path = str(tmp_path / "exemplars.npz")
    images = np.array([0.4, 0.6, 254.6, 100.0], np.float32).reshape(2, 2, 1, 1)
    save_exemplars(path, LabelledImages(images, np.array([1, 0])), _CLASS_ORDER)
    with np.load(path, allow_pickle=False) as arrays:
        assert arrays["float_images"].dtype == np.float32
        np.testing.assert_array_equal(arrays["images"].ravel(), [0, 1, 255, 100])
    loaded = load_exemplars(path, _CLASS_ORDER)
    assert loaded.images.dtype == np.float32
    np.testing.assert_array_equal(loaded.images, images)
    np.testing.assert_array_equal(loaded.labels, [1, 0])


def _out_of_range() -> LabelledImages:
    images = np.array([-3.0, -0.6, 255.4, 256.0, 300.0, 511.9], np.float32).reshape(1, 2, 3, 1)
    return LabelledImages(images, np.array([0]))


# A bare cast would make 253, 0, 255, 0, 44 and 255 of them.
_CLIPPED = np.array([0, 0, 255, 255, 255, 255], np.uint8)


def test_saved_pixels_are_clipped_and_do_not_wrap_around(tmp_path):
    path = str(tmp_path / "exemplars.npz")
    save_exemplars(path, _out_of_range(), _CLASS_ORDER)
    with np.load(path, allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["images"].ravel(), _CLIPPED)


def test_kept_pixels_are_clipped_and_do_not_wrap_around():
    stored = as_kept(_out_of_range(), codec_for(Memory()))
    assert stored.images.dtype == np.uint8
    np.testing.assert_array_equal(stored.images.ravel(), _CLIPPED)
    np.testing.assert_array_equal(stored.labels, [0])


def test_floats_are_kept_where_they_are_asked_for():
    exemplars = _exemplars([0, 1], np.float32)
    stored = as_kept(exemplars, codec_for(Memory(store_floats=True)))
    assert stored.images.dtype == np.float32
    np.testing.assert_array_equal(stored.images, exemplars.images)


@pytest.mark.parametrize(
    ("settings", "num_classes", "expected"),
    [
        ({"per_class": 20}, 50, 20),
        ({"per_class": 20}, 100, 20),
        ({"total": 2000}, 50, 40),
        ({"total": 2000}, 60, 33),  # 33.3 rounded down
        ({"total": 2000}, 100, 20),
        ({"total": 2000, "per_class": 5}, 100, 20),  # the total wins
    ],
)
def test_budget_of_a_class(settings, num_classes, expected):
    assert Memory(**settings).count(num_classes) == expected


def test_total_budget_is_never_exceeded():
    for num_classes in range(1, 101):
        assert Memory(total=2000).count(num_classes) * num_classes <= 2000


@pytest.mark.parametrize(
    ("settings", "expected"), [({"per_class": 7}, "per_class_7"), ({"total": 2000, "per_class": 7}, "total_2000")]
)
def test_mode_states_the_kind_of_budget(settings, expected):
    assert Memory(**settings).mode == expected


@pytest.mark.parametrize(("strategy", "learns"), [("mnemonics", True), ("herding", False), ("random", False)])
def test_only_mnemonics_learns_new_exemplars(strategy, learns):
    assert Memory(strategy=strategy).learns is learns


@pytest.mark.parametrize(
    "settings", [{"strategy": "mnemonic"}, {"per_class": 0}, {"per_class": 2.5}, {"total": 0}, {"total": -5}], ids=str
)
def test_impossible_settings_are_usage_errors_that_name_them(settings):
    (name,) = settings
    with pytest.raises(UsageError, match=rf"ExemplarMemory\.{name} = "):
        Memory(**settings)


_SIZES = [50, 10, 10, 10, 10, 10]


@pytest.mark.parametrize("settings", [{"per_class": 500}, {"total": 2000}, {"total": 25_000}, {"total": 200}], ids=str)
def test_budgets_that_fit_pass(settings):
    # 25,000 are 500 a class in phase 0; 200 are 2 a class at the end, one for each part.
    Memory(**settings).check_fits(_SIZES, class_sizes=[500] * 100, num_parts=2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"per_class": 501}, r"ExemplarMemory\.per_class = 501 asks for 501 images of a class in phase 0"),
        # 25,050 / 50 = 501.
        ({"total": 25_050}, r"ExemplarMemory\.total = 25050 asks for 501 images of a class in phase 0"),
        # 2 * 2 * 126 = 504 images of low resolution.
        ({"per_class": 126, "low_resolution": 2}, r"asks for 504 images of a class .* or low_resolution"),
        ({"total": 99}, r"ExemplarMemory\.total = 99 leaves no exemplar for some of 100 classes"),
        # 199 / 100 = 1, which cannot be split in two.
        ({"total": 199}, r"splits each class in 2 parts. Raise it, or set ExemplarMemory\.adjust = False"),
        ({"per_class": 1}, r"splits each class in 2 parts. Raise it, or set ExemplarMemory\.adjust = False"),
        # 23 * 23 = 529 images make a mosaic.
        ({"bytes_per_class": 10**6, "low_resolution": 23}, r"made of 529 images, and a class has 500"),
    ],
    ids=str,
)
def test_budgets_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        Memory(**settings).check_fits(_SIZES, class_sizes=[500] * 100, num_parts=2)


def test_each_class_is_compared_with_the_budget_of_the_phase_where_it_arrives():
    # 60 are 20, 15, 12 and 10 a class for 3, 4, 5 and 6 classes.
    budget = Memory(total=60, adjust=False)
    budget.check_fits([3, 1, 1, 1], class_sizes=[20, 25, 20, 15, 12, 10], num_parts=2)
    with pytest.raises(UsageError, match="12 images of a class in phase 2, but the smallest class there has 11"):
        budget.check_fits([3, 1, 1, 1], class_sizes=[20, 25, 20, 15, 11, 10], num_parts=2)


def test_one_exemplar_is_enough_where_nothing_is_adjusted():
    Memory(per_class=1, adjust=False).check_fits(_SIZES, class_sizes=[500] * 100, num_parts=2)
    Memory(per_class=1).check_fits([100], class_sizes=[500] * 100, num_parts=2)


@pytest.mark.parametrize("strategy", ["mnemonics", "random"])
def test_random_selection_takes_so_many_images_of_every_class(strategy):
    data = _exemplars([2, 0, 1] * 10)
    selected = select(Memory(strategy=strategy), data, None, 4, _generator())
    np.testing.assert_array_equal(selected.labels, np.repeat([0, 1, 2], 4))
    images = [image.tobytes() for image in selected.images]
    assert len(set(images)) == 12
    owner = {image.tobytes(): label for image, label in zip(data.images, data.labels, strict=True)}
    assert [owner[image] for image in images] == selected.labels.tolist()


def test_herding_selects_within_each_class_by_its_own_features():
    data = _exemplars([1, 0] * 8)
    features = np.random.default_rng(3).normal(size=(16, 4))
    selected = select(Memory(strategy="herding"), data, features, 1, _generator())
    # The first exemplar of a class is the image whose direction is nearest to the mean direction.
    directions = features / np.linalg.norm(features, axis=1, keepdims=True)
    for label, image in zip(selected.labels, selected.images, strict=True):
        members = np.flatnonzero(data.labels == label)
        mean = directions[members].mean(axis=0)
        nearest = members[np.argmin([np.linalg.norm(directions[member] - mean) for member in members])]
        np.testing.assert_array_equal(image, data.images[nearest])
    np.testing.assert_array_equal(selected.labels, [0, 1])


def test_herding_needs_features():
    with pytest.raises(ValueError, match="features"):
        select(Memory(strategy="herding"), _exemplars([0, 0]), None, 1, _generator())


def test_discarding_cuts_every_class_down_to_the_budget():
    exemplars = _exemplars(np.repeat([0, 1, 2], 10))
    kept = shrink(Memory(total=20), exemplars, 5, _generator())  # 20 / 5 = 4
    np.testing.assert_array_equal(kept.labels, np.repeat([0, 1, 2], 4))
    owner = {image.tobytes(): label for image, label in zip(exemplars.images, exemplars.labels, strict=True)}
    images = [image.tobytes() for image in kept.images]
    assert len(set(images)) == 12
    assert [owner[image] for image in images] == kept.labels.tolist()


def test_discarding_chooses_at_random_and_keeps_the_order():
    exemplars = LabelledImages(np.arange(40, dtype=np.uint8).reshape(-1, 1, 1, 1), np.zeros(40, np.int64))
    first, again, other = (
        shrink(Memory(total=20), exemplars, 1, np.random.default_rng(seed)).images.ravel().tolist()
        for seed in (0, 0, 1)
    )
    assert first == again != other
    assert first == sorted(first) != list(range(20))


def test_nothing_is_discarded_within_the_budget():
    exemplars = _exemplars(np.repeat([0, 1], [3, 5]))
    kept = shrink(Memory(per_class=5), exemplars, 2, _generator())
    np.testing.assert_array_equal(kept.images, exemplars.images)
    np.testing.assert_array_equal(kept.labels, exemplars.labels)


def test_mnemonics_can_start_from_herding():
    data = _exemplars([1, 0] * 8)
    features = np.random.default_rng(3).normal(size=(16, 4))
    learned, herded = (
        select(Memory(**settings), data, features, 3, _generator()).images
        for settings in ({"strategy": "mnemonics", "initial": "herding"}, {"strategy": "herding"})
    )
    np.testing.assert_array_equal(learned, herded)


def test_low_resolution_selects_several_images_for_each_exemplar():
    generator = np.random.default_rng(0)
    # Constant images, each with a value of its own: a tile then shows which image it came from.
    values = generator.permutation(40).astype(np.uint8)
    data = LabelledImages(np.broadcast_to(values[:, None, None, None], (40, 4, 4, 1)), np.repeat([0, 1], 20))
    budget = Memory(strategy="random", low_resolution=2)
    selected = select(budget, data, None, 3, _generator())
    assert selected.images.shape == (6, 4, 4, 1)
    np.testing.assert_array_equal(selected.labels, [0, 0, 0, 1, 1, 1])
    images = decoded(as_kept(selected, codec_for(budget)), codec_for(budget))
    owner = dict(zip(values.tolist(), data.labels.tolist(), strict=True))
    shown = images.images[:, 0, 0, 0].tolist()
    assert len(set(shown)) == 24
    assert [owner[value] for value in shown] == images.labels.tolist() == [0] * 12 + [1] * 12


def test_low_resolution_must_divide_the_image():
    Memory(low_resolution=2).check_image_shape((8, 6, 3))
    with pytest.raises(UsageError, match=r"low_resolution = 4: expected a divisor .* 8 x 6"):
        Memory(low_resolution=4).check_image_shape((8, 6, 3))


def test_soft_labels_are_filed_with_the_ids_of_their_columns(tmp_path):
    path = str(tmp_path / "exemplars.npz")
    soft = np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]], np.float32)
    save_exemplars(path, LabelledImages(_exemplars([2, 1]).images, np.array([2, 1]), soft), _CLASS_ORDER)
    with np.load(path, allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["soft_label_classes"], [3, 0, 4])
    loaded = load_exemplars(path, _CLASS_ORDER)
    np.testing.assert_array_equal(loaded.soft_labels, soft)
    np.testing.assert_array_equal(as_kept(loaded, codec_for(Memory())).soft_labels, soft)


# No exemplar at all, and what must then be switched off.
_NONE = {"per_class": 0, "strategy": "herding", "adjust": False}


@pytest.mark.parametrize("strategy", ["herding", "random"])
def test_budget_of_zero_keeps_nothing(strategy):
    budget = Memory(**{**_NONE, "strategy": strategy})
    assert not budget.keeps
    assert budget.mode == "none"
    assert [budget.count(num_classes) for num_classes in (1, 50, 100)] == [0, 0, 0]
    # Neither too many for a class of one image, nor too few to split.
    budget.check_fits(_SIZES, class_sizes=[1] * 100, num_parts=2)


@pytest.mark.parametrize("settings", [{}, {"per_class": 1}, {"total": 5}, {"total": 5, "per_class": 0}], ids=str)
def test_any_other_budget_keeps_something(settings):
    assert Memory(**settings).keeps


@pytest.mark.parametrize("strategy", ["herding", "random"])
def test_budget_of_zero_selects_no_image_and_needs_no_features(strategy):
    data = _exemplars([0, 1, 1, 0])
    selected = select(Memory(**{**_NONE, "strategy": strategy}), data, None, 0, _generator())
    assert len(selected) == 0
    assert selected.images.shape == (0, 2, 3, 1)
    assert selected.images.dtype == np.uint8


def test_budget_of_zero_has_no_mosaic_either():
    budget = Memory(**{**_NONE, "strategy": "random"}, low_resolution=2)
    data = LabelledImages(np.zeros((4, 4, 6, 1), np.uint8), np.array([0, 1, 1, 0]))
    codec = codec_for(budget)
    shown = decoded(as_kept(select(budget, data, None, 0, _generator()), codec), codec)
    assert shown.images.shape == (0, 4, 6, 1)
    assert shown.labels.shape == (0,)


def test_nothing_can_be_shrunk_stored_decoded_and_filed(tmp_path):
    budget, nothing = Memory(**_NONE), _exemplars([])
    for exemplars in (
        shrink(budget, nothing, 7, _generator()),
        as_kept(nothing, codec_for(budget)),
        decoded(nothing, codec_for(budget)),
    ):
        assert exemplars.images.shape == (0, 2, 3, 1)
        assert exemplars.labels.shape == (0,)
    path = str(tmp_path / "exemplars.npz")
    save_exemplars(path, nothing, _CLASS_ORDER)
    loaded = load_exemplars(path, _CLASS_ORDER)
    assert loaded.images.shape == (0, 2, 3, 1)
    assert loaded.labels.shape == (0,)


@pytest.mark.parametrize(
    "settings", [{"strategy": "mnemonics"}, {"adjust": True}, {"strategy": "mnemonics", "adjust": True}], ids=str
)
def test_what_is_not_kept_can_be_neither_learned_nor_adjusted(settings):
    message = (
        r"ExemplarMemory\.per_class = 0: there is nothing to learn or adjust\. Raise it, or set "
        r"ExemplarMemory\.strategy = 'herding' and ExemplarMemory\.adjust = False\."
    )
    with pytest.raises(UsageError, match=message):
        Memory(**{**_NONE, **settings})


@pytest.mark.parametrize(
    "settings",
    [
        {"per_class": -1},
        {"per_class": True},
        {"discard": "last"},
        {"initial": "mnemonics"},
        {"low_resolution": 0},
        {"adjust": "no"},
        {"store_floats": 1},
    ],
    ids=str,
)
def test_further_impossible_settings_are_usage_errors_that_name_them(settings):
    (name,) = settings
    with pytest.raises(UsageError, match=rf"^ExemplarMemory\.{name} = "):
        Memory(**settings)


_HERDED = {"total": 20, "discard": "herding"}


@pytest.mark.parametrize(
    "settings", [{"strategy": "herding"}, {"strategy": "mnemonics", "initial": "herding"}], ids=str
)
def test_discarding_by_herding_keeps_those_that_were_chosen_first(settings):
    exemplars = _exemplars(np.repeat([2, 0, 1], [10, 3, 4]))  # class after class, each in the order of its choice
    kept = shrink(Memory(**_HERDED, **settings), exemplars, 5, np.random.default_rng(9))  # 20 / 5 = 4
    by_class = {label: exemplars.images[exemplars.labels == label] for label in (0, 1, 2)}
    expected = np.concatenate([by_class[0], by_class[1], by_class[2][:4]])  # 3, 4 and the first 4 of 10
    np.testing.assert_array_equal(kept.images, expected)
    np.testing.assert_array_equal(kept.labels, np.repeat([0, 1, 2], [3, 4, 4]))


def test_herded_memory_shrinks_to_what_a_smaller_budget_would_have_chosen():
    data = _exemplars([1, 0] * 12)
    features = np.random.default_rng(3).normal(size=(24, 4))
    budget = Memory(strategy="herding", **_HERDED)
    shrunk = shrink(budget, select(budget, data, features, 10, _generator()), 5, _generator())
    np.testing.assert_array_equal(shrunk.images, select(budget, data, features, 4, _generator()).images)
    assert len(shrunk) == 8


@pytest.mark.parametrize("share", [0.25, 0.5, 0.7])
def test_random_discards_leave_real_images_where_they_are_looked_for(share):
    # Real images have even pixels. 40 exemplars are cut to 20, 13, 10 and 8 for 2, 3, 4 and 5 classes.
    generator, seen = np.random.default_rng(0), set()
    for _ in range(5):
        numbers = 2 * np.arange(40) + ~real_slots(np.zeros(40, np.int64), share)
        slots = LabelledImages(numbers.astype(np.uint8).reshape(-1, 1, 1, 1), np.zeros(40, np.int64))
        for num_classes in (2, 3, 4, 5):
            slots = shrink(Memory(total=40), slots, num_classes, generator, share)
            is_real = slots.images.ravel() % 2 == 0
            np.testing.assert_array_equal(is_real, real_slots(slots.labels, share))
        assert len(set(slots.images.ravel())) == 8
        seen |= set(slots.images.ravel().tolist())
    assert len(seen) > 16  # of the 40, by chance


def test_discarding_by_herding_needs_a_budget_that_shrinks():
    message = r"ExemplarMemory\.discard = 'herding': a budget a class has nothing to discard by it\. Set .*\.total"
    with pytest.raises(UsageError, match=message):
        Memory(strategy="herding", discard="herding")


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        ({"strategy": "random"}, r"Set ExemplarMemory\.strategy = 'herding'"),
        ({"strategy": "random", "initial": "herding"}, r"Set ExemplarMemory\.strategy = 'herding'"),
        ({"strategy": "mnemonics"}, r"Set ExemplarMemory\.initial = 'herding'"),
    ],
    ids=str,
)
def test_discarding_by_herding_needs_exemplars_that_were_herded(settings, remedy):
    with pytest.raises(UsageError, match=rf"chosen at random have no such order\. {remedy}"):
        Memory(**_HERDED, **settings)


def _contents(images: StoredImages) -> list[bytes]:
    return [images.content(row) for row in range(len(images))]


@pytest.mark.parametrize("labels", [[0, 1, 2, 3, 4, 2, 0], []], ids=["some", "none"])
@pytest.mark.parametrize("learned", [False, True], ids=["hard", "soft"])
def test_images_can_stay_in_the_file(learned, labels, tmp_path):
    path = str(tmp_path / "exemplars.npz")
    exemplars = _exemplars(labels)
    if learned:
        soft = np.random.default_rng(1).random((len(labels), 5)).astype(np.float32)
        exemplars = LabelledImages(exemplars.images, exemplars.labels, soft)
    save_exemplars(path, exemplars, _CLASS_ORDER)
    loaded, streamed = (load_exemplars(path, _CLASS_ORDER, streamed) for streamed in (False, True))
    assert isinstance(streamed.images, StoredImages)
    assert streamed.images.files == (path,)
    assert streamed.images.shape == (len(labels), 2, 3, 1)
    with np.load(path, allow_pickle=False) as arrays:
        assert _contents(streamed.images) == [image.tobytes() for image in arrays["images"]]
        np.testing.assert_array_equal(arrays["images"], exemplars.images)
    np.testing.assert_array_equal(streamed.labels, exemplars.labels)
    np.testing.assert_array_equal(loaded.labels, exemplars.labels)
    for kept in (loaded, streamed):
        if learned:
            np.testing.assert_array_equal(kept.soft_labels, exemplars.soft_labels)
        else:
            assert kept.soft_labels is None


def test_rows_of_files_are_saved_as_the_same_images_in_memory_are(tmp_path):
    exemplars = _exemplars([0, 1, 2, 2])
    before, after = str(tmp_path / "before.npz"), str(tmp_path / "after.npz")
    save_exemplars(before, exemplars, _CLASS_ORDER)
    rows = load_exemplars(before, _CLASS_ORDER, streamed=True)
    save_exemplars(after, rows, _CLASS_ORDER)
    assert Path(after).read_bytes() == Path(before).read_bytes()
    # Chosen and joined in another order.
    mixed = rows.take(np.array([3, 1])).join(_exemplars([4, 0], seed=1))
    save_exemplars(after, mixed, _CLASS_ORDER)
    loaded = load_exemplars(after, _CLASS_ORDER)
    np.testing.assert_array_equal(loaded.labels, [2, 1, 4, 0])
    expected = np.concatenate([exemplars.array[[3, 1]], _exemplars([4, 0], seed=1).array])
    np.testing.assert_array_equal(loaded.images, expected)


def test_file_of_exemplars_is_not_compressed_and_the_same_every_time(tmp_path):
    exemplars = LabelledImages(np.zeros((100, 8, 8, 3), np.uint8), np.zeros(100, np.int64))
    for name in ("first", "second"):
        save_exemplars(str(tmp_path / name), exemplars, _CLASS_ORDER)
    assert (tmp_path / "first").stat().st_size > 100 * 8 * 8 * 3
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_rows_of_files_are_chosen_and_discarded_unopened():
    labels = np.array([1, 0] * 8)
    images = StoredImages.of_files([f"/no/such/{number}.png" for number in range(16)], 4)
    arrays = LabelledImages(np.arange(16, dtype=np.uint8).reshape(-1, 1, 1, 1), labels)
    budget = Memory(strategy="random", total=12)

    def kept(data: LabelledImages) -> LabelledImages:
        return shrink(budget, select(budget, data, None, 6, _generator()), 3, _generator())

    rows, expected = kept(LabelledImages(images, labels)), kept(arrays)
    assert len(rows) == 8  # 12 / 3 of two classes
    assert [rows.images.place(row) for row in range(8)] == [f"/no/such/{n}.png" for n in expected.images.ravel()]
    np.testing.assert_array_equal(rows.labels, expected.labels)


def test_mosaics_of_files_are_those_of_their_pixels(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (8, 4, 4, 3), np.uint8)
    paths = [tmp_path / str(number) for number in range(8)]
    for path, image in zip(paths, images, strict=True):
        path.write_bytes(tf.io.encode_png(image).numpy())
    stored, labels = StoredImages.of_files([os.fspath(path) for path in paths], 4), np.repeat([0, 1], 4)
    budget = Memory(strategy="random", low_resolution=2)
    in_files, in_memory = (
        select(budget, LabelledImages(each, labels), None, 1, _generator()) for each in (stored, images)
    )
    np.testing.assert_array_equal(in_files.images, in_memory.images)
    np.testing.assert_array_equal(in_files.labels, [0, 1])


@pytest.mark.parametrize(("setting", "expected"), [({"store_floats": True}, False), ({"low_resolution": 2}, 1)])
def test_exemplars_in_files_are_whole_images_of_bytes(setting, expected):
    ((name, value),) = setting.items()
    with pytest.raises(UsageError, match=rf"{name} = {value}: .* Set {name} = {expected}, or keep .* in memory"):
        Memory(**setting).check_place(streamed=True)
    Memory().check_place(streamed=True)


_NAMES = ("ant", "bee", "cat", "dog")


@pytest.mark.parametrize(
    ("settings", "needed"),
    [
        ({"per_class": 3}, 3),
        ({"per_class": 1, "low_resolution": 2, "adjust": False}, 4),
        ({"total": 17}, 4),  # of the 4 classes that are known
        ({"total": 6, "low_resolution": 2}, 4),  # one mosaic
    ],
    ids=str,
)
def test_class_with_too_few_readable_images_is_named(settings, needed):
    budget = Memory(**settings)
    budget.check_readable(_exemplars([2] * needed + [3] * needed), _NAMES)
    (setting, *_) = settings
    message = rf"'dog' has {needed - 1} images .* and {needed} are needed .* lower ExemplarMemory\.{setting} in"
    with pytest.raises(UsageError, match=message):
        budget.check_readable(_exemplars([2] * needed + [3] * (needed - 1)), _NAMES)


def test_budget_of_zero_needs_no_readable_image():
    Memory(**_NONE).check_readable(_exemplars([2]), _NAMES)
