"""Values that nobody should bind: each is taken, or refused in a message before anything is touched.

`pytest -m heavy tests/faults` draws many more of them than the suite does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import gin
import pytest
from bad_pictures import broken_pictures
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from mnemonics_tf import config, methods
from mnemonics_tf.checks import UsageError
from mnemonics_tf.data import headers

_SAMPLE, _MANY = 60, 600
_QUICK = {
    "deadline": None,
    "derandomize": True,
    "database": None,
    "suppress_health_check": list(HealthCheck),
    "phases": (Phase.explicit, Phase.generate),  # to look for the smallest value that fails would take minutes
}

_SETTINGS = sorted(
    (owner, field.name)
    for owner, made in config.CONFIGURABLES.items()
    if dataclasses.is_dataclass(made)
    for field in dataclasses.fields(made)
    if field.init
)

_NUMBERS = st.one_of(
    st.integers(),
    st.integers(-3, 3),
    st.floats(),
    st.floats(-2, 2),
    st.sampled_from([2**31, 2**63, -(2**63), 2**64, 10**30, 1e308, 5e-324]),
)
_PLAIN = st.one_of(_NUMBERS, st.booleans(), st.none(), st.text(max_size=20))
_NESTED = st.recursive(
    _PLAIN,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.text(max_size=5), inner, max_size=3),
    ),
    max_leaves=12,
)
_WRITTEN = st.sampled_from([
    "@lucir", "@digits", "@nobody", "@lucir()", "%macro", "%gin.REQUIRED", "@gin.singleton", "", "'", "(((", "1 2",
    "\\", "'\ud800'", "'\0'", "9" * 5000, "[" * 200, "{}", "{1: 2}", "()", "''", "'auto'", "-0.0", "nan", "1e999",
    "0x10",
])  # fmt: skip
_VALUES = st.one_of(_NESTED.map(repr), _WRITTEN)


@pytest.fixture(autouse=True)
def _no_bindings_left():
    yield
    gin.clear_config()


def _judge(bindings: list[str], paths: Sequence[str] = ("configs/lucir_digits.gin",)) -> config.Configuration | None:
    """The configuration if it is accepted; None if it is refused in a message, as it should."""
    try:
        config.parse(paths, bindings)
        configuration = config.resolved()
        configuration.check()
    except UsageError as error:
        text = str(error).partition("\n  In call to configurable")[0]
        assert text.count("\n") <= 2, text
        assert len(text) < 2_000, text
        return None
    return configuration


def _check_value(owner: str, name: str, value: str) -> None:
    chosen = [f"Experiment.method = @{owner}"] if owner in methods.available() else []
    chosen += [f"Experiment.dataset = @{owner}"] if owner in ("digits", "tfds", "folder") else []
    configuration = _judge([*chosen, f"{owner}.{name} = {value}"])
    if configuration is None:
        return
    for part in vars(configuration.settings).values():
        for field in dataclasses.fields(part) if dataclasses.is_dataclass(part) else ():
            if str(field.type).startswith("float"):
                assert type(getattr(part, field.name)) in (float, type(None)), (owner, name, value)


@settings(max_examples=_SAMPLE, **_QUICK)
@given(st.sampled_from(_SETTINGS), _VALUES)
@example(("ModelLevel", "learning_rate"), "1")
@example(("ModelLevel", "momentum"), "0")
@example(("BalancedFinetune", "learning_rate"), "1")
@example(("Probe", "scratch_learning_rate"), "1")
def test_bad_value_is_taken_or_refused_in_a_message(setting, value):
    _check_value(*setting, value)


@pytest.mark.heavy
@settings(max_examples=_MANY, **_QUICK)
@given(st.sampled_from(_SETTINGS), _VALUES)
def test_many_bad_values_are_taken_or_refused_in_a_message(setting, value):
    _check_value(*setting, value)


@pytest.mark.heavy
@pytest.mark.parametrize("setting", _SETTINGS, ids=".".join)
@settings(max_examples=12, **_QUICK)
@given(value=_VALUES)
def test_every_setting_takes_or_refuses_bad_values(setting, value):
    _check_value(*setting, value)


@settings(max_examples=_SAMPLE, **_QUICK)
@given(st.one_of(st.text(max_size=60), st.text("()[]{}'\"@%=./\\\n #,0123456789ab", max_size=60)))
def test_binding_of_any_text_is_refused_in_a_message(text):
    _judge([text])


@settings(max_examples=_SAMPLE, **_QUICK)
@given(st.one_of(st.binary(max_size=200), st.text(max_size=100).map(str.encode)))
def test_gin_file_of_any_bytes_is_refused_in_a_message(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("gin") / "any.gin"
    path.write_bytes(content)
    _judge([], [str(path)])


@settings(max_examples=2 * _SAMPLE, **_QUICK)
@given(broken_pictures())
def test_head_of_any_picture_is_read(content):
    assert headers.orientation(content) in range(1, 9)
    extent = headers.extent(content)
    reason = headers.refusal(content)
    assert reason is None or (reason and "\n" not in reason)
    if extent is not None and headers.format_of(content[: headers.HEAD]) in headers.READABLE:
        assert (extent[0] * extent[1] > headers.MOST_PIXELS) <= (reason is not None)


@pytest.mark.heavy
@settings(max_examples=_MANY, **_QUICK)
@given(broken_pictures())
def test_picture_is_decoded_or_unreadable(content):
    import tensorflow as tf

    from mnemonics_tf.data import decoding

    try:
        image = decoding.pixels(content)
    except (headers.UnreadableImageError, tf.errors.OpError):
        return
    assert image.dtype == tf.uint8
    assert image.shape.rank == 3
