"""The shared validators."""

from __future__ import annotations

import math

import pytest

from mnemonics_tf import checks


@pytest.mark.parametrize("value", [1, 0.5, 1e-12])
def test_positive_numbers_pass(value):
    checks.check_positive(rate=value)


@pytest.mark.parametrize("value", [0, -1, -0.5, 0.0, "1", None, True, [1], math.nan])
def test_everything_but_positive_numbers_is_refused(value):
    with pytest.raises(checks.UsageError, match=r"^rate = .*: expected a number above 0\.$"):
        checks.check_positive(rate=value)


@pytest.mark.parametrize("value", [1, 2, 10**12])
def test_positive_integers_pass(value):
    checks.check_positive_integer(epochs=value)


@pytest.mark.parametrize("value", [0, -3, 1.0, 2.5, "2", None, True, math.nan])
def test_everything_but_positive_integers_is_refused(value):
    with pytest.raises(checks.UsageError, match=r"^epochs = .*: expected a whole number of at least 1\.$"):
        checks.check_positive_integer(epochs=value)


@pytest.mark.parametrize("value", [0, 0.0, 3, 0.1])
def test_non_negative_numbers_pass(value):
    checks.check_non_negative(weight=value)


@pytest.mark.parametrize("value", [-1, -1e-9, "0", None, False, math.nan])
def test_everything_but_non_negative_numbers_is_refused(value):
    with pytest.raises(checks.UsageError, match=r"^weight = .*: expected a number of at least 0\.$"):
        checks.check_non_negative(weight=value)


@pytest.mark.parametrize("value", [0, 0.0, 0.5, 0.999])
def test_fractions_pass(value):
    checks.check_fraction(momentum=value)


@pytest.mark.parametrize("value", [1, 1.0, -0.1, 2, "0.5", None, False, math.nan])
def test_everything_outside_zero_to_one_is_no_fraction(value):
    with pytest.raises(checks.UsageError, match=r"^momentum = .*: expected a number from 0 up to"):
        checks.check_fraction(momentum=value)


def test_message_says_which_of_several_values_was_wrong_and_what_it_was():
    with pytest.raises(checks.UsageError) as raised:
        checks.check_positive(**{"ModelLevel.learning_rate": 0.1, "ModelLevel.decay": -2})
    assert str(raised.value) == "ModelLevel.decay = -2: expected a number above 0."


def test_choice_passes_if_it_is_listed():
    checks.check_choice("stem", "7x7", ("3x3", "7x7"))


def test_refused_choice_lists_the_choices_and_names_the_nearest():
    with pytest.raises(checks.UsageError) as raised:
        checks.check_choice("strategy", "hearding", ("mnemonics", "herding", "random"))
    assert str(raised.value) == (
        "strategy = 'hearding': expected one of 'mnemonics', 'herding', 'random'. Did you mean 'herding'?"
    )


@pytest.mark.parametrize("value", [None, 7, ("herding",)])
def test_choice_of_another_type_is_refused(value):
    with pytest.raises(checks.UsageError, match="expected one of 'herding'"):
        checks.check_choice("strategy", value, ("herding",))


def test_choices_may_come_from_a_generator():
    with pytest.raises(checks.UsageError, match=r"expected one of 'a', 'b'\."):
        checks.check_choice("letter", "?", (letter for letter in "ab"))


@pytest.mark.parametrize(
    ("word", "choices", "expected"),
    [
        ("epoch", ["epochs", "decay"], " Did you mean 'epochs'?"),
        ("zzzz", ["epochs", "decay"], ""),
        ("epoch", [], ""),
    ],
)
def test_nearest_names_the_most_similar_choice_or_none(word, choices, expected):
    assert checks.nearest(word, choices) == expected


def test_finite_losses_pass():
    checks.check_finite_losses("train_model", {"cross_entropy": 2.3, "less_forget": 0.0}, "epoch 1")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_broken_loss_is_named_with_its_stage_and_moment(value):
    losses = {"cross_entropy": 2.3, "less_forget": value}
    with pytest.raises(checks.DivergedError) as raised:
        checks.check_finite_losses("train_model", losses, "epoch 3 of 8")
    text = str(raised.value)
    assert text.startswith(f"less_forget became {value} in stage train_model, epoch 3 of 8.")
    assert "cross_entropy" not in text
    assert "learning rate" in text


def test_usage_errors_can_be_caught_as_value_errors():
    assert issubclass(checks.UsageError, ValueError)
    assert issubclass(checks.BusyError, checks.UsageError)
    # Nothing was asked for wrongly; a caller who mends input must not catch it.
    assert not issubclass(checks.DivergedError, checks.UsageError)
