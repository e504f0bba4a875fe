"""The class order of the literature, and the dealing of classes to phases."""

from __future__ import annotations

import numpy as np
import pytest

from mnemonics_tf.checks import UsageError
from mnemonics_tf.data.class_order import Protocol, class_order, index_of_id

# As published with iCaRL's successors for CIFAR-100.
# fmt: off
_PUBLISHED = [
    68, 56, 78, 8, 23, 84, 90, 65, 74, 76, 40, 89, 3, 92, 55, 9, 26, 80, 43, 38, 58, 70, 77, 1, 85,
    19, 17, 50, 28, 53, 13, 81, 45, 82, 6, 59, 83, 16, 15, 44, 91, 41, 72, 60, 79, 52, 20, 10, 31, 54,
    37, 95, 14, 71, 96, 98, 97, 2, 64, 66, 42, 22, 35, 86, 24, 34, 87, 21, 99, 0, 88, 27, 18, 94, 11,
    12, 47, 25, 30, 46, 62, 69, 36, 61, 7, 63, 75, 5, 32, 4, 51, 48, 73, 93, 39, 67, 29, 49, 57, 33,
]
# fmt: on


def test_cifar100_order_is_the_published_one():
    order = Protocol().class_order([str(class_id) for class_id in range(100)])
    assert order.dtype == np.int64
    np.testing.assert_array_equal(order, _PUBLISHED)


def test_no_seed_keeps_the_data_sets_own_order():
    np.testing.assert_array_equal(Protocol(order_seed=None).class_order("abcdefg"), [0, 1, 2, 3, 4, 5, 6])


@pytest.mark.parametrize("num_classes", [1, 10, 1000])
def test_order_holds_every_class_once(num_classes):
    np.testing.assert_array_equal(np.sort(class_order(num_classes, 1993)), np.arange(num_classes))


def test_another_seed_gives_another_order():
    assert (class_order(100, 1) != class_order(100, 2)).any()


def test_order_neither_reads_nor_moves_numpys_global_generator():
    np.random.seed(5)
    first = np.random.random()
    np.random.seed(5)
    order = class_order(100, 1993)
    assert np.random.random() == first
    np.testing.assert_array_equal(class_order(100, 1993), order)


@pytest.mark.parametrize(
    ("num_classes", "num_phases", "share", "expected"),
    [
        (100, 5, 0.5, [50, 10, 10, 10, 10, 10]),
        (100, 10, 0.5, [50] + [5] * 10),
        (100, 25, 0.5, [50] + [2] * 25),
        (1000, 25, 0.5, [500] + [20] * 25),
        (100, 9, 0, [10] * 10),  # B0: N + 1 equal phases
        (100, 6, 0.4, [40] + [10] * 6),
        (10, 0, 0.5, [10]),  # a single phase with everything
        (10, 0, 0, [10]),
        (10, 7, 0.3, [3] + [1] * 7),  # 10 * 0.3 is 3.0000000000000004 or so in floating point
    ],
)
def test_classes_are_dealt_out_to_phases(num_classes, num_phases, share, expected):
    sizes = Protocol(num_phases=num_phases, initial_share=share).phase_sizes(num_classes)
    assert sizes == expected
    assert sum(sizes) == num_classes


def test_uneven_phases_are_refused_with_the_numbers_that_fit():
    # 50 classes remain; 7 does not divide them.
    with pytest.raises(UsageError) as raised:
        Protocol(num_phases=7).phase_sizes(100)
    assert "1, 2, 5, 10, 25, 50" in str(raised.value)
    assert "Protocol.num_phases" in str(raised.value)


def test_more_phases_than_classes_are_refused():
    with pytest.raises(UsageError, match="cannot be dealt evenly"):
        Protocol(num_phases=20, initial_share=0).phase_sizes(10)


def test_broken_initial_share_is_refused():
    # Half of 5 classes is 2.5.
    with pytest.raises(UsageError, match=r"Protocol\.initial_share = 0\.5 of 5 classes is 2\.5"):
        Protocol(num_phases=1).phase_sizes(5)


@pytest.mark.parametrize("share", [1, 1.0])
def test_initial_phase_with_every_class_leaves_none_for_later_phases(share):
    with pytest.raises(UsageError, match="expected a whole number from 1 to 9"):
        Protocol(num_phases=1, initial_share=share).phase_sizes(10)


@pytest.mark.parametrize(
    "settings",
    [
        {"num_phases": -1},
        {"num_phases": 2.5},
        {"num_phases": "5"},
        {"initial_share": -0.1},
        {"initial_share": 1.1},
        {"initial_share": "half"},
        {"order_seed": -1},
        {"order_seed": "1993"},
    ],
    ids=str,
)
def test_impossible_settings_are_usage_errors_that_name_them(settings):
    (name,) = settings
    with pytest.raises(UsageError, match=f"Protocol.{name}"):
        Protocol(**settings)


def test_sizes_of_the_phases_can_be_given():
    protocol = Protocol(sizes=(50, 30, 20))
    assert protocol.phase_sizes(100) == [50, 30, 20]
    # In the place of the number of phases and the initial share, and not of the order.
    assert Protocol(num_phases=7, initial_share=0.3, sizes=[4, 1]).phase_sizes(5) == [4, 1]
    names = [str(class_id) for class_id in range(100)]
    np.testing.assert_array_equal(protocol.class_order(names), _PUBLISHED)


@pytest.mark.parametrize(("sizes", "total"), [((50, 30), 80), ((50, 30, 21), 101), ((200,), 200)])
def test_sizes_that_do_not_add_up_are_refused(sizes, total):
    message = rf"Protocol\.sizes = .* are {total} classes, but the data set has 100\. Make them add up"
    with pytest.raises(UsageError, match=message):
        Protocol(sizes=sizes).phase_sizes(100)


_ANIMALS = ("ant", "bee", "cat", "dog", "elk", "fox")


def test_classes_arrive_as_the_lists_name_them():
    protocol = Protocol(classes=(("elk", "ant"), ("fox",), ("bee", "dog")))
    order = protocol.class_order(_ANIMALS)
    assert order.dtype == np.int64
    # The cat is in no list; the seed shuffles nothing.
    np.testing.assert_array_equal(order, [4, 0, 5, 1, 3])
    assert protocol.phase_sizes(6) == [2, 1, 2]


def test_classes_may_be_named_by_id():
    protocol = Protocol(classes=[[4, "ant"], [5], ["bee", 3]])
    np.testing.assert_array_equal(protocol.class_order(_ANIMALS), [4, 0, 5, 1, 3])
    assert protocol.phase_sizes(6) == [2, 1, 2]


@pytest.mark.parametrize(
    ("names", "lists", "expected"),
    [
        (("9", "1", "0"), (("0",), ("9",)), [2, 0]),
        # A whole number is a name, too, where all names are numbers; leading zeros make no other number.
        (("9", "1", "0"), ((0,), (1,)), [2, 1]),
        (("1", "10", "11", "2", "3"), ((1, 2, 3), (10, 11)), [0, 3, 4, 1, 2]),
        (("001", "002", "010"), ((10, 1), ("002",)), [2, 0, 1]),
        # Elsewhere it is an id, which a class may even have for its name.
        (("ant", "1", "cat"), ((2, 1),), [2, 1]),
        # An accent stored as a character of its own.
        (("caf\u00e9", "tea"), (("cafe\u0301",),), [0]),
        (("cafe\u0301", "tea"), (("caf\u00e9",),), [0]),
    ],
)
def test_names_are_found_however_they_are_written(names, lists, expected):
    np.testing.assert_array_equal(Protocol(classes=lists).class_order(names), expected)


@pytest.mark.parametrize(
    ("names", "number", "message"),
    [
        (("1", "2", "3"), 0, r"\[0\] has 0: no class has that number for its name\. There are '1', '2', '3'"),
        (("1", "01", "3"), 1, r"\[0\] has 1: that may be any of the classes '1' and '01'\. Put the name in quotes"),
        # The id 1 is the class '2', and the name '1' has the id 0.
        (("1", "2", "cat"), 1, r"may be the class '1' or the class id 1, which is '2'\. Put the name of the class in"),
    ],
)
def test_numbers_that_may_mean_two_classes_are_refused(names, number, message):
    with pytest.raises(UsageError, match=message):
        Protocol(classes=((number,),)).class_order(names)


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ((("ant", "bee"), ("cat", "ant")), r"class 'ant' is in phase 0 and again in phase 1\. A class arrives once"),
        ((("ant", "ant"),), r"class 'ant' is in phase 0 and again in phase 0"),
        ((("ant",), ("bee",), (1,)), r"class 'bee' is in phase 1 and again in phase 2"),  # by name and by id
    ],
)
def test_class_in_two_lists_is_refused(lists, message):
    with pytest.raises(UsageError, match=rf"Protocol\.classes: {message}"):
        Protocol(classes=lists).class_order(_ANIMALS)


def test_unknown_class_names_its_list_and_the_nearest():
    message = r"Protocol\.classes\[1\] has 'foxx', which the data set does not know\. Did you mean 'fox'\?"
    with pytest.raises(UsageError, match=message):
        Protocol(classes=(("ant",), ("foxx",))).class_order(_ANIMALS)


@pytest.mark.parametrize("class_id", [-1, 6])
def test_unknown_id_names_those_that_there_are(class_id):
    message = rf"Protocol\.classes\[0\] has class id {class_id}: the data set has ids 0 to 5\."
    with pytest.raises(UsageError, match=message):
        Protocol(classes=((class_id,), ("ant",))).class_order(_ANIMALS)


def test_sizes_and_classes_are_not_both_taken():
    with pytest.raises(UsageError, match=r"Protocol\.sizes and Protocol\.classes are both set: .* Leave sizes out\."):
        Protocol(sizes=(1, 1), classes=(("ant",), ("bee",)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sizes": ()}, r"Protocol\.sizes = \(\): expected one number a phase"),
        ({"sizes": 50}, r"Protocol\.sizes = 50: expected one number a phase"),
        ({"sizes": (50, 0)}, r"Protocol\.sizes\[1\] = 0: expected a whole number of at least 1"),
        ({"sizes": (50, 2.5)}, r"Protocol\.sizes\[1\] = 2\.5"),
        ({"sizes": (True,)}, r"Protocol\.sizes\[0\] = True"),
        ({"classes": ()}, r"Protocol\.classes = \(\): expected a list of class names for each phase"),
        ({"classes": (("ant",), ())}, r"Protocol\.classes\[1\] is empty: expected at least one class a phase"),
        # A single list, and a text in the place of one, are common mistakes.
        ({"classes": ("ant", "bee")}, r"Protocol\.classes = \('ant', 'bee'\): expected a list of class names for each"),
        ({"classes": "ant"}, r"Protocol\.classes = 'ant': expected a list"),
        ({"classes": (("ant", 2.0),)}, r"Protocol\.classes\[0\] has 2\.0: expected a class name or id"),
        ({"classes": (("ant", True),)}, r"Protocol\.classes\[0\] has True: expected a class name or id"),
        ({"classes": (("ant", None),)}, r"Protocol\.classes\[0\] has None"),
    ],
    ids=str,
)
def test_lists_that_are_none_are_usage_errors_that_name_the_place(settings, message):
    with pytest.raises(UsageError, match=message):
        Protocol(**settings)


def test_index_of_an_id_is_its_place_in_the_order():
    indices = index_of_id(np.array([3, 0, 4]), 6)
    assert indices.dtype == np.int64
    # The ids 1, 2 and 5 are in no phase.
    np.testing.assert_array_equal(indices, [1, -1, -1, 0, 2, -1])


def test_index_of_id_is_the_inverse_of_a_whole_order():
    order = class_order(100, 1993)
    np.testing.assert_array_equal(index_of_id(order, 100)[order], np.arange(100))
    np.testing.assert_array_equal(order[index_of_id(order, 100)], np.arange(100))
