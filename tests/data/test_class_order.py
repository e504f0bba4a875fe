"""The class order of the literature, and the dealing of classes to phases."""

from __future__ import annotations

import numpy as np
import pytest

from mnemonics_tf.checks import UsageError
from mnemonics_tf.data.class_order import Protocol, class_order

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
