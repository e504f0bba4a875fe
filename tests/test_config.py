"""Parsing of configurations, and its errors."""

from __future__ import annotations

import gin
import pytest

from mnemonics_tf import config
from mnemonics_tf.checks import UsageError
from mnemonics_tf.data.class_order import Protocol
from mnemonics_tf.experiment import Experiment
from mnemonics_tf.methods.lucir import LUCIR
from mnemonics_tf.training.model_level import ModelLevel


@pytest.fixture(autouse=True)
def _no_bindings_left():
    yield
    gin.clear_config()


def _refusal(gin_files, bindings) -> str:
    with pytest.raises(UsageError) as raised:
        config.parse([str(path) for path in gin_files], bindings)
    return str(raised.value)


def test_bindings_configure_what_is_built():
    config.parse([], ["ModelLevel.epochs = 8", "ModelLevel.milestones = (4, 6)", "lucir.margin = 0.25"])
    assert (ModelLevel().epochs, ModelLevel().milestones) == (8, (4, 6))
    assert LUCIR().margin == 0.25
    assert Protocol().num_phases == 5  # not bound: the default


def test_later_file_wins_and_bindings_win_over_files(tmp_path):
    first, second = tmp_path / "first.gin", tmp_path / "second.gin"
    first.write_text("ModelLevel.epochs = 1\nModelLevel.batch_size = 11\nModelLevel.decay = 0.3\n")
    second.write_text("ModelLevel.epochs = 2\nModelLevel.batch_size = 12\n")
    config.parse([str(first), str(second)], ["ModelLevel.batch_size = 13"])
    settings = ModelLevel()
    assert (settings.epochs, settings.batch_size, settings.decay) == (2, 13, 0.3)
    config.parse([str(second), str(first)], [])
    assert ModelLevel().epochs == 1


def test_later_binding_wins():
    config.parse([], ["Protocol.num_phases = 10", "Protocol.num_phases = 25"])
    assert Protocol().num_phases == 25


def test_parsing_forgets_what_was_bound_before():
    config.parse([], ["ModelLevel.epochs = 7"])
    config.parse([], ["ModelLevel.batch_size = 9"])
    assert (ModelLevel().epochs, ModelLevel().batch_size) == (160, 9)


@pytest.mark.parametrize(
    ("binding", "unknown", "suggested"),
    [
        ("ModelLevle.epochs = 3", "ModelLevle", "ModelLevel"),
        ("LUCIRR.margin = 0.1", "LUCIRR", None),
        ("Experiment.method = @lucirr", "lucirr", "lucir"),
        ("Experiment.dataset = @digit", "digit", "digits"),
    ],
)
def test_unknown_name_suggests_the_nearest(binding, unknown, suggested):
    text = _refusal([], [binding])
    assert text.startswith(f"Unknown name '{unknown}'")
    assert ("Did you mean" in text) == (suggested is not None)
    assert suggested is None or text.endswith(f"Did you mean '{suggested}'?")


@pytest.mark.parametrize(
    ("binding", "owner", "unknown", "suggested"),
    [
        ("ModelLevel.epoch = 3", "ModelLevel", "epoch", "epochs"),
        ("ExemplarLevel.inner_step = 3", "ExemplarLevel", "inner_step", "inner_steps"),
        ("lucir.less_forget = 3", "lucir", "less_forget", "less_forget_weight"),
        ("tfds.nam = 'cifar100'", "tfds", "nam", "name"),
        ("digits.test_shares = 0.1", "digits", "test_shares", "test_share"),
    ],
)
def test_unknown_parameter_suggests_the_nearest_and_lists_all(binding, owner, unknown, suggested):
    text = _refusal([], [binding])
    assert text.startswith(f"{owner} has no parameter '{unknown}'")
    assert f"Did you mean '{suggested}'? It has: " in text
    listed = text.partition("It has: ")[2].rstrip(".").split(", ")
    assert suggested in listed
    assert "self" not in listed


def test_unknown_parameter_in_a_file_names_file_and_line(tmp_path):
    path = tmp_path / "typo.gin"
    path.write_text("ModelLevel.epochs = 3\nModelLevel.batchsize = 3\n")
    text = _refusal([path], [])
    assert "Did you mean 'batch_size'?" in text
    assert "typo.gin" in text
    assert "line 2" in text


def test_missing_file_suggests_the_nearest(tmp_path):
    (tmp_path / "lucir_digits.gin").write_text("")
    text = _refusal([tmp_path / "lucir_digit.gin"], [])
    assert f"--gin_file = {tmp_path / 'lucir_digit.gin'}: there is no such file." in text
    assert text.endswith("Did you mean 'lucir_digits.gin'?")


@pytest.mark.parametrize("name", ["nowhere/lucir.gin", ""])
def test_missing_folder_and_folder_in_place_of_a_file_are_refused(tmp_path, name):
    assert "there is no such file." in _refusal([tmp_path / name], [])


def test_missing_include_is_named(tmp_path):
    path = tmp_path / "leaf.gin"
    path.write_text('include "no_such_part.gin"\n')
    assert "no_such_part.gin" in _refusal([path], [])


@pytest.mark.parametrize("text", ["ModelLevel.epochs = = 3\n", "ModelLevel.epochs = (3\n", "what is this\n"])
def test_syntax_error_names_the_file(tmp_path, text):
    path = tmp_path / "broken.gin"
    path.write_text(text)
    message = _refusal([path], [])
    assert message.startswith("The configuration cannot be read: ")
    assert "broken.gin" in message


def test_syntax_error_in_a_binding_is_refused():
    assert _refusal([], ["ModelLevel.epochs = = 3"]).startswith("The configuration cannot be read: ")


def test_include_is_found_beside_the_file(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/part_beside.gin").write_text("ModelLevel.epochs = 3\n")
    (tmp_path / "configs/leaf.gin").write_text('include "part_beside.gin"\nModelLevel.batch_size = 5\n')
    monkeypatch.chdir(tmp_path)
    config.parse(["configs/leaf.gin"], [])
    assert (ModelLevel().epochs, ModelLevel().batch_size) == (3, 5)


def test_include_is_found_from_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    (tmp_path / "part_here.gin").write_text("ModelLevel.epochs = 4\n")
    (tmp_path / "configs/leaf.gin").write_text('include "part_here.gin"\n')
    monkeypatch.chdir(tmp_path)
    config.parse(["configs/leaf.gin"], [])
    assert ModelLevel().epochs == 4


def test_include_beside_the_file_wins_over_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    (tmp_path / "part_twice.gin").write_text("ModelLevel.epochs = 4\n")
    (tmp_path / "configs/part_twice.gin").write_text("ModelLevel.epochs = 3\n")
    (tmp_path / "configs/leaf.gin").write_text('include "part_twice.gin"\n')
    monkeypatch.chdir(tmp_path)
    config.parse(["configs/leaf.gin"], [])
    assert ModelLevel().epochs == 3


def test_each_file_includes_what_lies_beside_it(tmp_path):
    for folder, epochs in (("a", 3), ("b", 4)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "part_of_each.gin").write_text(f"ModelLevel.epochs = {epochs}\n")
        (tmp_path / folder / "leaf.gin").write_text('include "part_of_each.gin"\n')
    config.parse([str(tmp_path / "a/leaf.gin"), str(tmp_path / "b/leaf.gin")], [])
    assert ModelLevel().epochs == 4


def test_resolved_configuration_holds_defaults_and_bindings_and_can_be_parsed_again():
    config.parse([], ["Experiment.dataset = @digits", "Experiment.method = @lucir", "ModelLevel.epochs = 8"])
    Experiment(), ModelLevel()
    text = config.resolved()
    assert "ModelLevel.epochs = 8" in text
    assert "ModelLevel.batch_size = 128" in text
    assert "Experiment.dataset = @digits" in text
    config.parse([], text.splitlines())
    Experiment(), ModelLevel()
    assert config.resolved() == text


@pytest.mark.parametrize(
    ("binding", "message"),
    [
        ("order_seed = 2", "Did you mean 'Protocol.order_seed'"),  # gin itself takes a bare name for a macro
        ("x/Experiment.seed = 2", "scopes are not used here"),
        ("ModelLevel.epochs = %length", "Unknown macro '%length'"),
        ("import no_such_module", "No module named"),
    ],
)
def test_binding_that_nothing_would_read_is_refused(binding, message):
    assert message in _refusal([], [binding])


def test_macro_that_is_used_is_accepted():
    config.parse([], ["length = 7", "ModelLevel.epochs = %length"])
    assert config.CONFIGURABLES["ModelLevel"]().epochs == 7
