"""Modules of one's own beside a gin file: networks, sources and methods, from any folder."""

from __future__ import annotations

import itertools
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from mnemonics_tf import config
from mnemonics_tf.checks import UsageError
from mnemonics_tf.models.backbone import Backbone
from mnemonics_tf.models.resnet import ResNet
from mnemonics_tf.run import initial_phases
from mnemonics_tf.system import gin_imports

_MODULE = """
import dataclasses
from typing import ClassVar
import keras
from mnemonics_tf.methods.replay import Replay
from mnemonics_tf.models.resnet import ResNet

def my_network(width=4):
    pooled = [keras.Input((8, 8, 1)), keras.layers.Conv2D(width, 3), keras.layers.GlobalAveragePooling2D()]
    return keras.Sequential(pooled)

def my_other():
    return ResNet((1,), (8,))

def my_mistake():
    return "resnet"

class my_source:
    horizontal_flip, known_shape = False, None

    def load(self):
        raise RuntimeError("not now")

class my_loader:
    def load(self):
        return None

def my_broken(width):
    return width

class my_lister:
    @property
    def horizontal_flip(self):
        return [][0]

    known_shape, load = None, None

@dataclasses.dataclass(frozen=True)
class my_Method(Replay):
    weight: float = 1.0
    name: ClassVar[str] = "my_method"

    def __post_init__(self):
        if self.weight > 1:
            raise RuntimeError("too heavy")
"""


def _with_lines(expected: str) -> str:
    """A pattern in which `<text>` stands for the line of the module that has this text."""
    return re.sub("<(.*?)>", lambda found: str(_MODULE[: _MODULE.index(found[1])].count("\n") + 1), expected)


_BASE = 'include "shared.gin"\ninclude "configs/base_method.gin"\n'
_GIN = f"""
import {{module}}
{_BASE.strip()}
Experiment.network = @{{network}}
"""


_numbers = itertools.count()


@pytest.fixture
def gin_file(tmp_path, monkeypatch):
    """Writes a gin file for a network of a module beside it, and goes to another folder."""
    (tmp_path / "there").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "there" / "shared.gin").write_text('include "configs/icarl_digits.gin"\n')

    # gin keeps names for the life of the process: each test has its own.
    own = f"my{next(_numbers)}_"

    def write(network: str, more: str = "") -> str:
        (tmp_path / "there" / f"{own}module.py").write_text(_MODULE.replace("my_", own))
        path: Path = tmp_path / "there" / "mine.gin"
        path.write_text((_GIN.format(module="my_module", network=network) + more).replace("my_", own))
        return str(path)

    return write


def test_network_is_a_keras_model_from_a_module_beside_the_gin_file(gin_file):
    config.parse([gin_file("my_network", "my_network.width = 6\n")], [])
    configuration = config.resolved()
    network = configuration.settings.network
    assert isinstance(network, Backbone)
    assert network.build((8, 8, 1)).output_shape == (None, 6)
    assert configuration.settings.method.name == "icarl"
    assert re.search(r"my\d_network.width = 6", config.text())
    assert "ResNet." not in config.text()
    # Its random weights follow the seed, in every process alike.
    again = config.resolved()
    config.parse([gin_file("my_network", "my_network.width = 6\nExperiment.seed = 1\n")], [])
    other = config.resolved()
    descriptions = [initial_phases._described(each.settings.network) for each in (configuration, again, other)]
    json.dumps(descriptions)
    assert descriptions[0] == descriptions[1] != descriptions[2]


def test_source_of_data_needs_no_decorator(gin_file):
    config.parse([gin_file("my_other", "Experiment.dataset = @my_source\n")], [])
    configuration = config.resolved()
    assert configuration.settings.network == ResNet((1,), (8,))
    # What it raises is one line with the place, as everything that users can mend.
    with pytest.raises(
        UsageError,
        match=_with_lines(r"@my\d_source failed: not now \(RuntimeError, file .*my\d_module.py, line <not now>\)"),
    ):
        configuration.load_dataset()


@pytest.mark.parametrize(
    ("bindings", "expected"),
    [
        ([], "Experiment.network refers to something that makes 'resnet': expected a Keras model"),
        (
            ["Experiment.network = @my_broken"],
            "@my_broken failed: .*missing 1 required .*'width' .*line <def my_broken>",
        ),
        (["Experiment.dataset = @my_loader"], "@my_loader has no horizontal_flip and no known_shape: expected"),
        (["Experiment.dataset = @my_lister"], "@my_lister failed: list index out of range .*line <[][0]>"),
        (
            ["Experiment.method = @my_method", "my_method.weight = 2.0"],
            r"Experiment.method = @my_Method failed: too heavy \(RuntimeError, file .*line <too heavy>\)",
        ),
        (
            ["Experiment.method = @my_method", "my_method.weight = 'a'"],
            "@my_Method failed: '>' not supported ",
        ),
        (["Experiment.network = 3"], "Experiment.network is 3: expected a reference such as @mine"),
        (["Experiment.network = @my_netwerk"], "Unknown name 'my_netwerk'.* Did you mean"),
    ],
)
def test_other_networks_are_refused(gin_file, bindings, expected):
    path = gin_file("my_mistake" if not bindings or "network" in bindings[0] else "my_other")
    own = Path(path).with_name("mine.gin").read_text().split()[1].removesuffix("module")
    expected = _with_lines(expected).replace("my_", own)

    def resolved():
        config.parse([path], [each.replace("my_", own) for each in bindings])
        return config.resolved()

    with pytest.raises(UsageError, match=expected) as raised:
        resolved()
    assert "\n" not in str(raised.value).partition("\n  In call to configurable")[0]


def test_name_that_two_modules_have_is_told_apart_by_the_module(gin_file):
    path = Path(gin_file("my_other"))
    own = path.read_text().split()[1].removesuffix("module")
    path.with_name(f"{own}second.py").write_text(f"def {own}other(depth=1):\n    return depth\n")

    def parse(name: str, *more: str) -> None:
        path.write_text(f"import {own}module\nimport {own}second\n" + _BASE + f"Experiment.network = @{name}\n")
        config.parse([str(path)], more)

    both = f"is ambiguous, as it is in {own}module and {own}second .*line 5.*Write '{own}module.{own}other' or"
    with pytest.raises(UsageError, match=both):
        parse(f"{own}other")
    with pytest.raises(UsageError, match=r"has no parameter 'width'.* It has: depth"):
        parse(f"{own}module.{own}other", f"{own}second.{own}other.width = 2")
    parse(f"{own}module.{own}other", f"{own}second.{own}other.depth = 2")
    assert config.resolved().settings.network == ResNet((1,), (8,))


def test_module_that_is_nowhere_is_asked_for_beside_the_gin_file(gin_file):
    path = Path(gin_file("my_other"))
    path.write_text("import nowhere_at_all\n")
    with pytest.raises(
        UsageError, match=r"No module named 'nowhere_at_all' .*Put nowhere_at_all\.py beside the gin file"
    ):
        config.parse([str(path)], [], gin_imports.Trusted(("nowhere_at_all",)))


def test_module_that_is_named_is_found_in_the_working_folder(gin_file, tmp_path, monkeypatch):
    # As `python -m` finds it; the folder of a command that is installed comes first in its place.
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each not in ("", str(tmp_path / "here"))])
    (tmp_path / "here" / "named_here.py").write_text("def named_network():\n    return None\n")
    path = tmp_path / "there" / "config.gin"
    path.write_text("import named_here\n")
    with pytest.raises(UsageError, match="among the modules that were named"):
        config.parse([str(path)], [], gin_imports.Trusted(beside=False))
    config.parse([str(path)], [], gin_imports.Trusted(("named_here",), beside=False))
    assert sys.modules["named_here"].__file__ == str(tmp_path / "here" / "named_here.py")
    path.write_text("import named_nowhere\n")
    with pytest.raises(UsageError, match=r"Put named_nowhere\.py in the folder in which you work"):
        config.parse([str(path)], [], gin_imports.Trusted(("named_nowhere",), beside=False))


def test_module_elsewhere_is_imported_if_it_is_named(gin_file, tmp_path):
    path = gin_file("my_other")
    before = list(sys.path)
    plain = tmp_path / "there" / "plain.gin"
    plain.write_text("import json.decoder\n")
    with pytest.raises(UsageError, match=r"does not lie beside the gin file .*: --gin_import=json.decoder\.") as raised:
        config.parse([str(plain)], [])
    assert "\n" not in str(raised.value)
    for module in ("json", "json.decoder"):
        config.parse([str(plain)], [], gin_imports.Trusted((module,)))
    config.parse([], ["import json.decoder"])  # the user's own word
    assert sys.path == before
    config.parse([path], [])
    assert sys.path == [str(tmp_path / "there"), *before]


def test_description_of_other_settings_is_what_it_was():
    assert initial_phases._described(ResNet((1,), (8,)))["blocks"] == [1]
    assert initial_phases._described(np.float64(1.0)) == 1.0


@pytest.mark.parametrize("where", ["here", "there"])
def test_stranger_in_the_working_folder_is_not_run(gin_file, tmp_path, where):
    # `python -m` looks for modules in the working folder, where anybody may have put something.
    stranger = f"stranger_{where}"
    ran = tmp_path / "ran"
    (tmp_path / "here" / f"{stranger}.py").write_text(f"import pathlib\npathlib.Path({str(ran)!r}).touch()\n")
    sys.path.insert(0, str(tmp_path / "here"))
    path = tmp_path / where / "plain.gin"
    path.write_text(f"import {stranger}\n")
    with pytest.raises(UsageError, match="among the modules that were named"):
        config.parse([str(path)], [], gin_imports.Trusted(beside=False))
    if where == "here":  # beside its gin file it is the user's own
        assert not ran.exists()
        config.parse([str(path)], [])
        assert ran.exists()
        return
    with pytest.raises(UsageError, match="an import runs code"):
        config.parse([str(path)], [])
    assert not ran.exists()


def test_functions_of_modules_that_python_has_already_cannot_be_called(tmp_path):
    # `shutil` is imported long before: its name beside the gin file must not open the way to shutil.rmtree.
    (tmp_path / "shutil.py").touch()
    (tmp_path / "precious").mkdir()
    path = tmp_path / "plain.gin"
    for module in ("shutil", "mnemonics_tf.system.complete"):
        function = "rmtree" if module == "shutil" else "remove"
        path.write_text(
            f"import {module}\nExperiment.dataset = @{function}\n{function}.path = '{tmp_path}/precious'\n"
            "Experiment.method = @lucir\n"
        )
        with pytest.raises(UsageError, match=r"Python has another module of that name|Unknown name"):
            config.parse([str(path)], [])
    assert (tmp_path / "precious").is_dir()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("class Mine(LUCIR):\n    name = 'lucir'\n", r"\.Mine is called 'lucir', as something of this package is"),
        ("class Mine(LUCIR):\n    pass\n", r"Mine is called 'lucir', as a method of this package is"),
        ("def digits():\n    pass\n", r"\.digits is called 'digits', as something of this package is"),
    ],
)
def test_what_has_a_name_of_the_package_is_refused_and_not_replaced(tmp_path, monkeypatch, text, expected):
    monkeypatch.setattr(sys, "path", list(sys.path))
    module = f"replaced{next(_numbers)}"
    (tmp_path / f"{module}.py").write_text(f"from mnemonics_tf.methods.lucir import LUCIR\n\n{text}")
    path = tmp_path / "mine.gin"
    path.write_text(f"import {module}\n{_BASE}".replace("shared", "configs/icarl_digits"))
    with pytest.raises(UsageError, match=expected):
        config.parse([str(path)], [])


def test_base_class_of_ones_own_methods_needs_no_name(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    module = f"based{next(_numbers)}"
    (tmp_path / f"{module}.py").write_text(
        "from mnemonics_tf.methods.lucir import LUCIR\n\nclass _Base(LUCIR):\n    pass\n\n"
        f"class Mine(_Base):\n    name = '{module}_method'\n"
    )
    path = tmp_path / "mine.gin"
    path.write_text(f"import {module}\ninclude 'configs/icarl_digits.gin'\nExperiment.method = @{module}_method\n")
    config.parse([str(path)], [])
    assert type(config.resolved().settings.method).__name__ == "Mine"
