"""Settings of a training stage."""

from __future__ import annotations

import pytest

from mnemonics_tf.checks import UsageError
from mnemonics_tf.training.settings import SGDSettings


class Stage(SGDSettings):
    """A stage with a name of its own, as the package's stages have."""


_VALID = {
    "epochs": 160,
    "batch_size": 128,
    "learning_rate": 0.1,
    "milestones": (80, 120),
    "decay": 0.1,
    "momentum": 0.9,
    "weight_decay": 5e-4,
}


# Epochs count from 0, so "after 80 epochs" begins with epoch 80.
@pytest.mark.parametrize(
    ("epoch", "expected"), [(0, 0.1), (79, 0.1), (80, 0.01), (119, 0.01), (120, 0.001), (159, 0.001)]
)
def test_rate_falls_to_a_tenth_at_each_milestone(epoch, expected):
    assert Stage(**_VALID).learning_rate_at(epoch) == pytest.approx(expected, rel=1e-12)


def test_rate_stays_without_milestones():
    settings = Stage(**{**_VALID, "milestones": ()})
    assert {settings.learning_rate_at(epoch) for epoch in range(160)} == {0.1}


def test_decay_is_any_factor():
    # 0.8, then half of it, then a quarter.
    settings = Stage(**{**_VALID, "learning_rate": 0.8, "decay": 0.5, "milestones": (1, 2)})
    assert [settings.learning_rate_at(epoch) for epoch in range(4)] == pytest.approx([0.8, 0.4, 0.2, 0.2])


@pytest.mark.parametrize(
    "settings",
    [
        {"epochs": 0},
        {"epochs": 1.5},
        {"batch_size": 0},
        {"learning_rate": 0.0},
        {"learning_rate": -0.1},
        {"decay": 0},
        {"momentum": 1.0},
        {"momentum": -0.1},
        {"weight_decay": -1e-4},
        {"milestones": (120, 80)},
        {"milestones": (80, 80)},
        {"milestones": 80},
    ],
    ids=str,
)
def test_impossible_settings_are_usage_errors_that_name_stage_and_setting(settings):
    (name,) = settings
    with pytest.raises(UsageError, match=rf"^Stage\.{name} = "):
        Stage(**{**_VALID, **settings})


@pytest.mark.parametrize("settings", [{"momentum": 0.0}, {"weight_decay": 0}, {"milestones": [80, 120]}, {"decay": 1}])
def test_plain_gradient_descent_is_allowed(settings):
    Stage(**{**_VALID, **settings})
