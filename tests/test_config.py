"""Parsing of configurations, and its errors."""

from __future__ import annotations

import gin
import pytest

from mnemonics_tf import config
from mnemonics_tf.checks import UsageError
from mnemonics_tf.methods.lucir import LUCIR
from mnemonics_tf.system import gin_paths
from mnemonics_tf.training.settings import ModelLevel


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
    assert (config.build("ModelLevel").epochs, config.build("ModelLevel").milestones) == (8, (4, 6))
    assert config.build("lucir").margin == 0.25
    assert config.build("Protocol").num_phases == 5  # not bound: the default


def test_later_file_wins_and_bindings_win_over_files(tmp_path):
    first, second = tmp_path / "first.gin", tmp_path / "second.gin"
    first.write_text("ModelLevel.epochs = 1\nModelLevel.batch_size = 11\nModelLevel.decay = 0.3\n")
    second.write_text("ModelLevel.epochs = 2\nModelLevel.batch_size = 12\n")
    config.parse([str(first), str(second)], ["ModelLevel.batch_size = 13"])
    settings = config.build("ModelLevel")
    assert (settings.epochs, settings.batch_size, settings.decay) == (2, 13, 0.3)
    config.parse([str(second), str(first)], [])
    assert config.build("ModelLevel").epochs == 1


def test_later_binding_wins():
    config.parse([], ["Protocol.num_phases = 10", "Protocol.num_phases = 25"])
    assert config.build("Protocol").num_phases == 25


def test_parsing_forgets_what_was_bound_before():
    config.parse([], ["ModelLevel.epochs = 7"])
    config.parse([], ["ModelLevel.batch_size = 9"])
    assert (config.build("ModelLevel").epochs, config.build("ModelLevel").batch_size) == (160, 9)


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
    for binding in ("ModelLevel.epochs = \\", "ModelLevel.epochs = \\\n"):  # each Python says it otherwise
        assert "ModelLevel.epochs: the line ends with '\\', and there is no next one" in _refusal([], [binding])


def test_include_is_found_beside_the_file(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/part_beside.gin").write_text("ModelLevel.epochs = 3\n")
    (tmp_path / "configs/leaf.gin").write_text('include "part_beside.gin"\nModelLevel.batch_size = 5\n')
    monkeypatch.chdir(tmp_path)
    config.parse(["configs/leaf.gin"], [])
    assert (config.build("ModelLevel").epochs, config.build("ModelLevel").batch_size) == (3, 5)


def test_include_is_found_from_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    (tmp_path / "part_here.gin").write_text("ModelLevel.epochs = 4\n")
    (tmp_path / "configs/leaf.gin").write_text('include "part_here.gin"\n')
    monkeypatch.chdir(tmp_path)
    config.parse(["configs/leaf.gin"], [])
    assert config.build("ModelLevel").epochs == 4


def test_include_beside_the_file_wins_over_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    (tmp_path / "part_twice.gin").write_text("ModelLevel.epochs = 4\n")
    (tmp_path / "configs/part_twice.gin").write_text("ModelLevel.epochs = 3\n")
    (tmp_path / "configs/leaf.gin").write_text('include "part_twice.gin"\n')
    monkeypatch.chdir(tmp_path)
    config.parse(["configs/leaf.gin"], [])
    assert config.build("ModelLevel").epochs == 3


def test_each_file_includes_what_lies_beside_it(tmp_path):
    for folder, epochs in (("a", 3), ("b", 4)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "part_of_each.gin").write_text(f"ModelLevel.epochs = {epochs}\n")
        (tmp_path / folder / "leaf.gin").write_text('include "part_of_each.gin"\n')
    config.parse([str(tmp_path / "a/leaf.gin"), str(tmp_path / "b/leaf.gin")], [])
    assert config.build("ModelLevel").epochs == 4


def test_resolved_configuration_holds_defaults_and_bindings_and_can_be_parsed_again():
    config.parse([], ["Experiment.dataset = @digits", "Experiment.method = @lucir", "ModelLevel.epochs = 8"])
    config.build("Experiment"), config.build("ModelLevel")
    text = config.text()
    assert "ModelLevel.epochs = 8" in text
    assert "ModelLevel.batch_size = 128" in text
    assert "Experiment.dataset = @digits" in text
    config.parse([], text.splitlines())
    config.build("Experiment"), config.build("ModelLevel")
    assert config.text() == text


@pytest.mark.parametrize(
    ("binding", "message"),
    [
        ("order_seed = 2", "Did you mean 'Protocol.order_seed'"),  # gin itself takes a bare name for a macro
        ("x/Experiment.seed = 2", "scopes are not used here"),
        ("ModelLevel.epochs = %length", "Unknown macro '%length'"),
    ],
)
def test_binding_that_nothing_would_read_is_refused(binding, message):
    assert message in _refusal([], [binding])


def test_macro_that_is_used_is_accepted():
    config.parse([], ["length = 7", "ModelLevel.epochs = %length"])
    assert config.build("ModelLevel").epochs == 7


def test_python_takes_what_it_is_given_whatever_is_bound():
    config.parse([], ["ModelLevel.epochs = 8", "ModelLevel.batch_size = 9", "lucir.margin = 0.25"])
    assert (ModelLevel(epochs=3).epochs, ModelLevel(epochs=3).batch_size, LUCIR().margin) == (3, 128, 0.5)
    assert type(config.build("ModelLevel")) is ModelLevel
    # What Python makes is no part of the resolved configuration.
    assert "lucir" not in config.text()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Probe.enabled = false", "Probe.enabled: expected False, with a capital letter and no quotes, found false"),
        ("Probe.enabled = yes", "Probe.enabled: expected True, with"),
        ("ExemplarMemory.total = none", "ExemplarMemory.total: expected None, with"),
        ("tfds.name = cifar100", 'tfds.name: a text stands in quotes: expected "cifar100", found cifar100'),
        ("folder.path = /my/images", 'folder.path: a text stands in quotes: expected "/my/images"'),
        ("folder.path = ~/images  # mine", 'expected "~/images"'),
        ("folder.path = C:\\images", 'expected "C:\\images"'),
        ("Experiment.method = lucir", "Experiment.method: a reference begins with '@': expected @lucir"),
        ("ModelLevel.epochs 3", "expected a binding such as 'ModelLevel.epochs = 8', found ModelLevel.epochs 3"),
        ("ModelLevel.epochs: 3", "ModelLevel.epochs: a binding has '=' between name and value"),
        ("ModelLevel.epochs =", "ModelLevel.epochs: a value is missing after '='"),
        ("ModelLevel.epochs == 3", "expected a binding such as"),
        ("ModelLevel.epochs = 2 * 3", "gin does not calculate"),
        ("ModelLevel.epochs = 3;", "a line ends without ';'"),
        ("ModelLevel.milestones = 3, 4", "several values stand in brackets: expected (3, 4)"),
        ("ModelLevel.milestones = (3, 4", "ModelLevel.milestones: the bracket '(' is opened and not closed"),
        ("ModelLevel.milestones = [3, (4, 5]", "expected ',' or ')' before ]"),
        ("ModelLevel.milestones = 3)", "the bracket ')' closes nothing"),
        ("tfds.name = 'cifar100", "tfds.name: a quote is opened and not closed"),
        ("tfds.name = \u201ccifar100\u201d", "expected straight quotes"),
        ("[ModelLevel]", "expected a binding such as"),
        ("ModelLevel.epochs = " + "9" * 5000, "a number of too many digits"),
        ("ModelLevel.epochs = " + "9" * 100, "ModelLevel.epochs: the number is too large"),
        ("ModelLevel.milestones = " + "(" * 500, "brackets"),
        ("ModelLevel.milestones = " + "[" * 50 + "1" + "]" * 50, "brackets are nested too deeply"),
        ("Experiment.dataset = @digits()", "'@digits()' is a call: expected a reference, @digits, without parentheses"),
        ("Experiment.dataset = @singleton()", "gin's own"),
        ("Experiment.dataset = @x/digits", "scopes are not used here"),
        ("folder.path = %gin.REQUIRED", "folder.path has no value yet"),
        ("a = %b\nb = %a\nModelLevel.epochs = %a", "The macros %a -> %b -> %a refer to one another"),
        ("a = %a\nModelLevel.epochs = %a", "The macros %a -> %a refer to one another"),
        ("from __gin__ import dynamic_registration", "is refused"),
        ("os.path.join.a = 3", "Unknown name 'os.path.join'"),
    ],
)
def test_slip_names_what_is_expected_and_where(tmp_path, line, message):
    path = tmp_path / "slip.gin"
    path.write_text(f"# a comment\n{line}\nModelLevel.batch_size = 3\n")
    text = _refusal([path], [])
    assert message in text
    assert f"(file {path}, line 2)" in text
    assert text.count("\n") == 0
    assert len(text) < 400 + len(str(path))
    assert message in _refusal([], line.split("\n"))


def _layers(count: int) -> list[str]:
    """Macros in layers, each of which stands for both of the next one: there are 2^count ways through them."""
    lines = [f"{name}{layer} = (%a{layer + 1}, %b{layer + 1})" for layer in range(count) for name in "ab"]
    return [*lines, f"a{count} = 1", f"b{count} = 2", "ModelLevel.milestones = (%a0, %b0)"]


def test_few_lines_that_stand_for_endlessly_much_are_refused():
    config.parse([], _layers(10))
    assert "more than 100,000 values" in _refusal([], _layers(18))
    assert "%a0 -> %a1 -> %a2 -> ... use one another more than 20 deep" in _refusal([], _layers(40))
    chain = [f"a{number} = %a{number + 1}" for number in range(2000)]
    assert "more than 20 deep" in _refusal([], [*chain, "a2000 = 1", "ModelLevel.epochs = %a0"])


def test_includes_that_stand_for_endlessly_much_are_refused(tmp_path):
    for number in range(18):
        (tmp_path / f"{number}.gin").write_text(f"include '{number + 1}.gin'\n" * 2)
    (tmp_path / "18.gin").write_text("ModelLevel.epochs = 3\n")
    assert "the files that are included are more than 100" in _refusal([tmp_path / "0.gin"], [])
    assert len(list(gin_paths.walk(str(tmp_path / "0.gin")))) == 100
    (tmp_path / "18.gin").write_text("".join(f"include 'deep{number}.gin'\n" for number in range(1)))
    for number in range(600):
        (tmp_path / f"deep{number}.gin").write_text(f"include 'deep{number + 1}.gin'\n")
    assert "nested too deeply" in _refusal([tmp_path / "deep0.gin"], [])
    assert len(list(gin_paths.walk(str(tmp_path / "deep0.gin")))) <= 100


def test_import_that_fails_is_told():
    assert "'import no_such_module' failed: No module named" in _refusal([], ["import no_such_module"])


def test_quoted_text_is_text(tmp_path):
    path = tmp_path / "percent.gin"
    path.write_text("folder.path = '50%off @digits include \\'x\\' = ('\n")
    config.parse([str(path)], ['tfds.name = "%name"'])
    assert gin.query_parameter("folder.path") == "50%off @digits include 'x' = ("


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_files_of_all_editors_are_read(tmp_path, encoding, end):
    (tmp_path / "part.gin").write_bytes(f"ModelLevel.epochs = 3{end}".encode(encoding))
    (tmp_path / "leaf.gin").write_bytes(f"include 'part.gin'{end}tfds.name = 'ż'{end}".encode(encoding))
    config.parse([str(tmp_path / "leaf.gin")], [])
    assert (config.build("ModelLevel").epochs, gin.query_parameter("tfds.name")) == (3, "ż")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("ModelLevel.epochs = 3".encode("utf-16"), "found UTF-16. Save it as UTF-8"),
        ("ModelLevel.epochs = 3".encode("utf-16-le"), "expected text in UTF-8"),
        ("# größer".encode("latin-1"), "expected text in UTF-8"),
        (b"#" * 2**21, "more than 1,048,576 bytes"),
    ],
)
def test_files_that_are_no_text_are_refused(tmp_path, content, message):
    (tmp_path / "part.gin").write_bytes(content)
    (tmp_path / "leaf.gin").write_text("include 'part.gin'")
    for name in ("part.gin", "leaf.gin"):
        text = _refusal([tmp_path / name], [])
        assert message in text
        assert str(tmp_path / "part.gin") in text


def test_included_files_include_what_lies_beside_them(tmp_path, monkeypatch):
    (tmp_path / "parts/deeper").mkdir(parents=True)
    (tmp_path / "leaf.gin").write_text("include 'parts/one.gin'\n")
    (tmp_path / "parts/one.gin").write_text("include 'deeper/two.gin'\n")
    (tmp_path / "parts/deeper/two.gin").write_text("include 'three.gin'\n")
    (tmp_path / "parts/deeper/three.gin").write_text("ModelLevel.epochs = 5\n")
    monkeypatch.chdir("/")
    config.parse([str(tmp_path / "leaf.gin")], [])
    assert config.build("ModelLevel").epochs == 5


def test_shipped_configurations_are_found_from_anywhere_and_local_ones_win(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config.parse(["configs/lucir_digits.gin"], [])
    assert config.build("Experiment").build_method() == config.build("lucir")
    (tmp_path / "mine.gin").write_text("include 'configs/lucir_digits.gin'\nProtocol.num_phases = 1\n")
    config.parse(["mine.gin"], [])
    assert (config.build("Protocol").num_phases, config.build("ModelLevel").epochs) == (1, 30)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/lucir_digits.gin").write_text("ModelLevel.epochs = 77\n")
    for name in ("configs/lucir_digits.gin", "mine.gin"):
        config.parse([name], [])
        assert config.build("ModelLevel").epochs == 77


def test_tilde_is_the_home_of_the_user(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "part.gin").write_text("ModelLevel.epochs = 6\n")
    (tmp_path / "leaf.gin").write_text("include '~/part.gin'\n")
    config.parse(["~/leaf.gin"], [])
    assert config.build("ModelLevel").epochs == 6


def test_includes_that_cannot_be_followed_are_named_with_file_and_line(tmp_path):
    (tmp_path / "part").mkdir()
    (tmp_path / "a.gin").write_text("\ninclude 'b.gin'\n")
    (tmp_path / "b.gin").write_text("include 'a.gin'\n")
    text = _refusal([tmp_path / "a.gin"], [])
    assert "include 'a.gin': files include one another: a.gin -> b.gin -> a.gin" in text
    assert f"(file {tmp_path}/b.gin, line 1)" in text
    (tmp_path / "b.gin").write_text("include 'part'\n")
    assert "include 'part': that is a folder" in _refusal([tmp_path / "a.gin"], [])
    # Python can import this folder, which gin takes for a place to look into.
    (tmp_path / "b.gin").write_text("include 'mnemonics_tf/no_such.gin'\n")
    assert "include 'mnemonics_tf/no_such.gin': there is no such file" in _refusal([tmp_path / "a.gin"], [])
    (tmp_path / "b.gin").write_text("include 'aa.gin'\n")
    assert "Did you mean 'a.gin'?" in _refusal([tmp_path / "a.gin"], [])


_OUTSIDE = """
import dataclasses
{imports}
from mnemonics_tf.methods.base import Method

{decorator}
@dataclasses.dataclass(frozen=True)
class {name}(Method):
    weight: float = 2.0
    name = "{name}"

    def losses(self, outputs, teacher, labels, groups):
        return {{}}
"""


@pytest.mark.parametrize(
    ("name", "imports", "decorator"),
    [("bare_outsider", "", ""), ("decorated_outsider", "import gin", '@gin.configurable("decorated_outsider")')],
)
def test_method_outside_the_package_is_found_when_it_is_imported(tmp_path, monkeypatch, name, imports, decorator):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / f"module_of_{name}.py").write_text(_OUTSIDE.format(name=name, imports=imports, decorator=decorator))
    lines = [f"import module_of_{name}", f"Experiment.method = @{name}", f"{name}.weight = 3.0"]
    for _ in range(2):  # the module is imported once, and known each time
        config.parse([], [*lines, "Experiment.dataset = @digits"])
        method = config.build("Experiment").build_method()
        assert (type(method).__name__, method.weight) == (name, 3.0)
        assert f"import module_of_{name}" in config.text()
    assert f"{name} has no parameter 'wait'" in _refusal([], [*lines, f"{name}.wait = 1"])
    assert "Unknown name" in _refusal([], lines[1:])
