"""What holds for the package as a whole, read from its source: one-way imports, and no dead hyper-parameters."""

from __future__ import annotations

import ast
import dataclasses
import graphlib
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import mnemonics_tf
from mnemonics_tf import config

_PACKAGE = "mnemonics_tf"
_ROOT = Path(mnemonics_tf.__file__).parent

# A module imports only from what stands before it here, or from its own package.
_ORDER = (
    "checks",
    "system",
    "runtime",
    "data",
    "losses",
    "models",
    "bilevel",
    "memory",
    "methods",
    "training",
    "evaluation",
    "results",
    "serving",
    "learner",
    "run",
    "config",
    "experiment",
    "going_on",
    "verify",
    "report",
    "main",
    "learn",
    "predict",
    "export",
    "commands",
)


def _module_name(path: Path) -> str:
    """`mnemonics_tf.data.stream`, or `mnemonics_tf.data` for a package's `__init__.py`."""
    parts = path.relative_to(_ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


_TREES = {
    _module_name(path): ast.parse(path.read_text(encoding="utf-8"), str(path)) for path in sorted(_ROOT.rglob("*.py"))
}
_MODULES = sorted(_TREES)


def _imports(module: str) -> set[str]:
    """The package's own modules that `module` imports, wherever in its text it does so."""
    found = set()
    for node in ast.walk(_TREES[module]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            # `from package import module` imports the module, `from module import name` the module that has the name.
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in _TREES else node.module for name in names}
    return {name for name in found if name.partition(".")[0] == _PACKAGE}


def _top(module: str) -> str:
    """The first name below the package: `data` of `mnemonics_tf.data.stream`; empty for the package itself."""
    return module.partition(".")[2].partition(".")[0]


def test_every_module_has_its_place_in_the_order():
    assert {_top(module) for module in _MODULES if module != _PACKAGE} == set(_ORDER)


def test_imports_are_absolute():
    relative = [
        module
        for module, tree in _TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []


def test_package_itself_imports_nothing_that_takes_time():
    # It is imported before every other module, and --help must not wait for TensorFlow.
    assert _imports(_PACKAGE) == {f"{_PACKAGE}.system.early"}
    assert _imports(f"{_PACKAGE}.system.early") == set()


@pytest.mark.parametrize("module", [module for module in _MODULES if module != _PACKAGE])
def test_module_imports_only_what_comes_before_it_or_belongs_to_its_package(module):
    allowed = {*_ORDER[: _ORDER.index(_top(module))], _top(module)}
    assert {name for name in _imports(module) - {_PACKAGE} if _top(name) not in allowed} == set()


def test_modules_do_not_import_one_another_in_a_circle():
    order = list(graphlib.TopologicalSorter({module: _imports(module) for module in _MODULES}).static_order())
    assert set(order) == set(_MODULES)


@pytest.mark.parametrize("module", _MODULES)
def test_files_and_functions_are_short(module):
    path = _ROOT.parent / Path(*module.split("."))
    source = path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__init__.py"
    assert source.read_text(encoding="utf-8").count("\n") <= 400
    functions = [node for node in ast.walk(_TREES[module]) if isinstance(node, ast.FunctionDef)]
    assert [node.name for node in functions if node.end_lineno - node.lineno >= 60] == []


def test_loose_modules_are_those_that_contributing_gives_a_reason_for():
    assert {path.stem for path in _ROOT.glob("*.py")} - {"__init__"} == {
        "checks", "commands", "config", "experiment", "export", "going_on", "learn", "losses", "main", "predict",
        "results", "runtime", "verify",
    }  # fmt: skip


def test_configuration_needs_no_tensorflow():
    # It takes seconds to import, and contradictions between settings are told before.
    script = "import sys, mnemonics_tf.config; print([name for name in ('tensorflow', 'keras') if name in sys.modules])"
    finished = subprocess.run([sys.executable, "-c", script], cwd=_ROOT.parent, capture_output=True, text=True)
    assert finished.stdout.strip() == "[]", finished.stderr


def test_choices_of_settings_are_what_there_is():
    from mnemonics_tf.models import choices, heads

    assert tuple(heads.HEADS) == choices.HEADS


def test_gin_is_known_to_the_configuration_alone():
    # Settings and methods take what they are given; `config` names them to gin.
    users = {name for name, tree in _TREES.items() if _imports_gin(tree)}
    readers = {f"mnemonics_tf.system.{name}" for name in ("gin_files", "gin_macros", "gin_paths")}
    assert users == {"mnemonics_tf.config", *readers}


def _imports_gin(tree: ast.Module) -> bool:
    modules = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    modules += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return any(module.partition(".")[0] == "gin" for module in modules)


def test_list_of_configurables_is_complete():
    # The names that errors suggest, and that the tests below go through: classes of settings check themselves when they
    # are made, and no other dataclass of the package has a check of what a user may bind.
    settings = {
        node.name
        for module, tree in _TREES.items()
        if _top(module) != "bilevel"  # a library of its own, which no configuration reaches
        for node in tree.body
        if isinstance(node, ast.ClassDef)
        and any(ast.unparse(each).startswith("dataclasses.dataclass") for each in node.decorator_list)
        and _checks_what_users_bind(node)
    }
    assert {"ExemplarLevel", "Probe", "Protocol"} <= settings  # the search finds what it looks for
    assert settings <= {configurable.__name__ for configurable in config.CONFIGURABLES.values()}


def _checks_what_users_bind(node: ast.ClassDef) -> bool:
    """Whether `__post_init__` names a binding of this class, as in `checks.check_bool(**{"Probe.enabled": ...})`."""
    checked = [each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == "__post_init__"]
    return any(f"{node.name}." in ast.unparse(each) for each in checked)


# What functions of these names read has no effect on a run: they check, or write down what was set.
_WITHOUT_EFFECT = ("__post_init__", "check", "_check", "_results")


def _attributes_read(tree: ast.AST) -> set[str]:
    """Names that are taken from some object, outside functions whose name starts as one of `_WITHOUT_EFFECT`."""
    names = set()
    pending = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef) and node.name.startswith(_WITHOUT_EFFECT):
            continue
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            names.add(node.attr)
        pending.extend(ast.iter_child_nodes(node))
    return names


_READ = set().union(*(_attributes_read(tree) for tree in _TREES.values()))
_DATACLASSES = {value.__name__: value for value in config.CONFIGURABLES.values()}
_FIELDS = [(name, field.name) for name, value in _DATACLASSES.items() for field in dataclasses.fields(value)]


@pytest.mark.parametrize(("class_name", "field"), _FIELDS, ids=map(".".join, _FIELDS))
def test_field_of_a_configurable_is_read_somewhere(class_name, field):
    assert field in _READ, f"{class_name}.{field} can be set and nothing reads it."


def test_dead_hyper_parameters_are_noticed():
    source = """
        class Training:
            epochs: int = 2
            momentum: float = 0.9

            def __post_init__(self):
                check(self.momentum)

            def run(self):
                return self.epochs
    """
    assert _attributes_read(ast.parse(textwrap.dedent(source))) == {"epochs"}
