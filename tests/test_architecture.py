"""What holds for the package as a whole, read from its source: one-way imports, and no dead hyper-parameters."""

from __future__ import annotations

import ast
import dataclasses
import graphlib
import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import mnemonics_tf
from mnemonics_tf import config

_PACKAGE = "mnemonics_tf"
_ROOT = Path(mnemonics_tf.__file__).parent

# A module imports only from what stands before it here, or from its own package.
_ORDER = (
    "types",
    "checks",
    "tracking",
    "runtime",
    "data",
    "models",
    "losses",
    "exemplars",
    "bilevel",
    "methods",
    "training",
    "evaluation",
    "checkpointing",
    "export",
    "images",
    "phase",
    "experiment",
    "report",
    "config",
    "screen",
    "main",
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


def test_package_itself_imports_none_of_its_modules():
    # It is imported before every other module, and --help must not wait for TensorFlow.
    assert _imports(_PACKAGE) == set()


@pytest.mark.parametrize("module", [module for module in _MODULES if module != _PACKAGE])
def test_module_imports_only_what_comes_before_it_or_belongs_to_its_package(module):
    allowed = {*_ORDER[: _ORDER.index(_top(module))], _top(module)}
    assert {name for name in _imports(module) - {_PACKAGE} if _top(name) not in allowed} == set()


def test_modules_do_not_import_one_another_in_a_circle():
    order = list(graphlib.TopologicalSorter({module: _imports(module) for module in _MODULES}).static_order())
    assert set(order) == set(_MODULES)


def _configurable_names(tree: ast.Module) -> Iterator[str]:
    """Names of the functions and classes with the decorator `gin.configurable`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            for decorator in node.decorator_list:
                call = decorator.func if isinstance(decorator, ast.Call) else decorator
                if ast.unparse(call) == "gin.configurable":
                    yield node.name


def test_list_of_configurables_is_complete():
    # The names that errors suggest, and that the tests below go through.
    decorated = {name for tree in _TREES.values() for name in _configurable_names(tree)}
    assert decorated == {configurable.__name__ for configurable in config.CONFIGURABLES.values()}


# What functions of these names read has no effect on a run: they check, or write down what was set.
_WITHOUT_EFFECT = ("__post_init__", "check_", "_results")

_UNKNOWN = None
_FOREIGN = "a class from elsewhere"


class _Reads(ast.NodeVisitor):
    """Which attributes of which classes are read, outside functions whose name starts as one of `_WITHOUT_EFFECT`.

    A field counts as read where its name is taken from an expression of its class. The class of an expression is
    followed through annotations, constructors and assignments; where it cannot be told, the name alone counts. So an
    `epochs` of one class that nothing reads is not covered up by the `epochs` of another.

    Args:
      trees: the modules.
    """

    def __init__(self, trees: list[ast.Module]):
        nodes = [node for tree in trees for node in ast.walk(tree)]
        self._classes = {node.name: node for node in nodes if isinstance(node, ast.ClassDef)}
        self._attributes: dict[tuple[str, str], str | None] = {}
        self._scopes: list[dict[str, str | None]] = []
        self._owner: str | None = None
        self._found: set[tuple[str | None, str]] = set()
        # Twice, because attributes must be known before they are met in other modules.
        for _ in range(2):
            self._found.clear()
            for tree in trees:
                self._scopes = [_imported_from_elsewhere(tree)]
                self.visit(tree)

    def includes(self, class_name: str, field: str) -> bool:
        """Whether the field is read from the class, from one of its bases, or from an expression of unknown class."""
        return any((owner, field) in self._found for owner in (*self._ancestors(class_name), _UNKNOWN))

    def _ancestors(self, name: str) -> list[str]:
        bases = [base.id for base in self._classes[name].bases if isinstance(base, ast.Name)]
        return [name, *(ancestor for base in bases if base in self._classes for ancestor in self._ancestors(base))]

    def _annotated(self, annotation: ast.expr | None) -> str | None:
        """The class that an annotation names; `X | None` is X, and so is what a factory of X returns."""
        if annotation is None:
            return _UNKNOWN
        names = {node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)}
        own = names & set(self._classes)
        if own:
            return own.pop() if len(own) == 1 else _UNKNOWN
        return _UNKNOWN if "Any" in names else _FOREIGN

    def _class_of(self, node: ast.expr) -> str | None:
        if isinstance(node, ast.Name):
            return next((scope[node.id] for scope in reversed(self._scopes) if node.id in scope), _UNKNOWN)
        if isinstance(node, ast.Attribute):
            owner = self._class_of(node.value)
            if owner not in self._classes:
                return owner
            known = [self._attributes.get((ancestor, node.attr), _UNKNOWN) for ancestor in self._ancestors(owner)]
            return next((name for name in known if name is not _UNKNOWN), _UNKNOWN)
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            return called if called in self._classes else self._class_of(node.func)
        return _UNKNOWN

    def _bind(self, target: ast.expr, class_name: str | None) -> None:
        if isinstance(target, ast.Name):
            self._scopes[-1][target.id] = class_name
        elif isinstance(target, ast.Attribute) and class_name is not _UNKNOWN:
            owner = self._class_of(target.value)
            if owner in self._classes:
                self._attributes[owner, target.attr] = class_name

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """Notes the declared fields."""
        outer, self._owner = self._owner, node.name
        for statement in node.body:
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                self._attributes[node.name, statement.target.id] = self._annotated(statement.annotation)
        self._scopes.append({})
        self.generic_visit(node)
        self._scopes.pop()
        self._owner = outer

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        """Opens a scope with the arguments."""
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        scope = {argument.arg: self._annotated(argument.annotation) for argument in arguments}
        outer, self._owner = self._owner, None
        if outer and "self" in scope:
            scope["self"] = outer
        self._scopes.append(scope)
        if not node.name.startswith(_WITHOUT_EFFECT):
            self.generic_visit(node)
        self._scopes.pop()
        self._owner = outer

    def visit_Assign(self, node: ast.Assign) -> None:
        """Notes the class of what is assigned."""
        self.visit(node.value)
        for target in node.targets:
            if isinstance(target, ast.Tuple):
                values = node.value.elts if isinstance(node.value, ast.Tuple) else [None] * len(target.elts)
                for part, value in zip(target.elts, values, strict=True):
                    self._bind(part, _UNKNOWN if value is None else self._class_of(value))
            else:
                self._bind(target, self._class_of(node.value))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        """Notes the read."""
        if isinstance(node.ctx, ast.Load):
            self._found.add((self._class_of(node.value), node.attr))
        self.generic_visit(node)


def _imported_from_elsewhere(tree: ast.Module) -> dict[str, str | None]:
    """The names that a module has from other packages."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {(alias.asname or alias.name).partition(".")[0]: _FOREIGN for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] != _PACKAGE:
            names |= {alias.asname or alias.name: _FOREIGN for alias in node.names}
    return names


def _names_read_outside_checks(function: ast.FunctionDef) -> set[str]:
    """Names that a function's body uses for more than to check them or to put them in a message."""
    names = set()
    pending: list[ast.AST] = list(function.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("checks."):
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            names.add(node.id)
        pending.extend(ast.iter_child_nodes(node))
    return names


_READS = _Reads(list(_TREES.values()))
_FUNCTIONS = {node.name: node for tree in _TREES.values() for node in tree.body if isinstance(node, ast.FunctionDef)}
_DATACLASSES = {value.__name__: value for value in config.CONFIGURABLES.values() if dataclasses.is_dataclass(value)}
_FIELDS = [(name, field.name) for name, value in _DATACLASSES.items() for field in dataclasses.fields(value)]
_PARAMETERS = [
    (value.__name__, parameter)
    for value in config.CONFIGURABLES.values()
    if not dataclasses.is_dataclass(value)
    for parameter in inspect.signature(value).parameters
]


@pytest.mark.parametrize(("class_name", "field"), _FIELDS, ids=map(".".join, _FIELDS))
def test_field_of_a_configurable_is_read_somewhere(class_name, field):
    assert _READS.includes(class_name, field), f"{class_name}.{field} can be set and nothing reads it."


@pytest.mark.parametrize(("function", "parameter"), _PARAMETERS, ids=map(".".join, _PARAMETERS))
def test_parameter_of_a_configurable_is_read_somewhere(function, parameter):
    assert parameter in _names_read_outside_checks(_FUNCTIONS[function]), f"{function}.{parameter} has no effect."


def test_dead_hyper_parameters_are_noticed():
    # The detector itself, on a package with two stages of equal field names.
    source = """
        import keras

        class Base:
            shared: int = 0

        class Warmup(Base):
            epochs: int = 1
            rate: float = 0.1
            milestones: tuple = ()
            checked: int = 1

            def __post_init__(self):
                check(self.checked)

            def rate_at(self, epoch):
                return self.rate

            def _results(self):
                return {"epochs": self.epochs}

        class Training(Base):
            epochs: int = 2
            milestones: tuple = ()
            momentum: float = 0.9

        class Run:
            def __init__(self, training: Training | None):
                self._training, self._warmup = training, Warmup()

            def run(self):
                settings = self._training
                optimizer = keras.optimizers.SGD()
                return settings.epochs, optimizer.momentum, self._warmup.shared, somewhere().milestones
    """
    reads = _Reads([ast.parse(textwrap.dedent(source))])
    read = {
        (class_name, field)
        for class_name in ("Warmup", "Training")
        for field in ("epochs", "rate", "milestones", "checked", "momentum", "shared")
        if reads.includes(class_name, field)
    }
    assert read == {
        ("Warmup", "rate"),
        ("Warmup", "shared"),
        ("Training", "epochs"),
        # Of a class that cannot be told: it may be either.
        ("Warmup", "milestones"),
        ("Training", "milestones"),
    }


def test_parameters_that_are_only_checked_are_noticed():
    source = """
        def load(name, size, share):
            checks.check_positive(size=size)
            if not name:
                raise checks.UsageError(f"{name}, {share}")
            return open(name)
    """
    (function,) = ast.parse(textwrap.dedent(source)).body
    assert _names_read_outside_checks(function) == {"name", "open"}
