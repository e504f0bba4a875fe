"""What pages and README name exists: files, settings, flags, names of Python, functions behind the equations."""

from __future__ import annotations

import ast
import importlib
import inspect
import itertools
import re
from pathlib import Path

import pytest
from conftest import ROOT
from doc_pages import PAGES, blocks, name_of, text_of

import mnemonics_tf
from mnemonics_tf.config import CONFIGURABLES

# Files that a page has the reader write, and a typing error that another page is about.
_NOT_THERE = {
    "mnemonics_tf/methods/weighted_replay.py",
    "configs/methods/weighted_replay.gin",
    "configs/lucir_digit.gin",
}
# Of sbatch, pip, TensorBoard, TensorFlow Serving, Abseil, and of all.
_FLAGS_OF_OTHERS = {
    *("nodes", "no-deps", "logdir", "help", "verbosity"),
    *("base_path", "model_base_path", "model_config_file", "model_name", "port", "rest_api_port"),
}


@pytest.fixture(params=PAGES, ids=name_of)
def page(request) -> Path:
    return request.param


def _alternatives(path: str) -> list[str]:
    """`a/{b,c}.gin` as `a/b.gin` and `a/c.gin`."""
    parts = [part[1:-1].split(",") if part.startswith("{") else [part] for part in re.split(r"(\{[^}]*\})", path)]
    return ["".join(chosen) for chosen in itertools.product(*parts)]


def test_readme_is_short():
    assert text_of(ROOT / "README.md").count("\n") < 150


def test_files_that_are_named_exist(page):
    named = re.findall(
        r"(?<![\w/.:-])(?:configs|launch|examples|docs|tests|mnemonics_tf)/[\w./{},*-]*\w", text_of(page)
    )
    missing = {
        path
        for each in named
        for path in _alternatives(each)
        if path not in _NOT_THERE and not any(ROOT.glob(path)) and not any(ROOT.glob(f"{path}.*"))
    }
    assert missing == set()


def test_links_of_readme_lead_somewhere():
    targets = re.findall(r"\]\(([^)]+)\)", text_of(ROOT / "README.md"))
    assert len(targets) > 15
    assert [target for target in targets if not (ROOT / target.partition("#")[0]).is_file()] == []


def _parameters(name: str) -> set[str]:
    return set(inspect.signature(CONFIGURABLES[name]).parameters)


def test_settings_that_are_named_exist(page):
    text = re.sub(r"mnemonics_tf(\.\w+)+", "", text_of(page))
    names = "|".join(map(re.escape, CONFIGURABLES))
    named = re.findall(rf"(?<![\w./])({names})\.([a-z]\w*)(?!\w|/|\()", text)
    wrong = {(name, field) for name, field in named if field not in ("gin", "py", "md")} - {
        (name, field) for name in CONFIGURABLES for field in _parameters(name)
    }
    if page.name == "faq.md":  # a typing error that the page is about
        wrong -= {("Experiment", "sede")}
    assert wrong == set()


def test_settings_of_the_table_exist():
    rows = re.findall(r"^\| (`.*?) \|", text_of(ROOT / "docs/reference/settings.md"), re.MULTILINE)
    assert len(rows) > 25
    for row in rows:
        owner = None
        for name in re.findall(r"`([\w.]+)`", row):
            given, _, field = name.rpartition(".")
            owner = given or owner
            assert field in _parameters(owner), name


def test_flags_that_are_named_exist(page):
    sources = [*(ROOT / "mnemonics_tf").rglob("*.py"), *(ROOT / "launch").rglob("*.py")]
    pattern = r"(?:DEFINE_\w+\(\s*\"|add_argument\(\s*\"--)([\w-]+)\""
    defined = set().union(*(re.findall(pattern, text_of(source)) for source in sources))
    scripts = "".join(text_of(path) for path in (ROOT / "launch").glob("*.sh"))
    named = set(re.findall(r"(?<![\w-])--(\w[\w-]*)", text_of(page))) - _FLAGS_OF_OTHERS
    unknown = {flag for flag in named if flag.removeprefix("no") not in defined and flag not in defined}
    assert {flag for flag in unknown if f"--{flag}" not in scripts} == set()


def test_python_of_pages_compiles_and_imports_what_there_is(page):
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] == "mnemonics_tf":
                module = importlib.import_module(node.module)
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


def test_dotted_names_of_the_package_exist(page):
    for name in sorted(set(re.findall(r"(?<![\w/])mnemonics_tf(?:\.[A-Za-z]\w*)+", text_of(page)))):
        parts = name.split(".")
        if name.endswith("."):
            continue
        found = importlib.import_module("mnemonics_tf")
        for end, part in enumerate(parts[1:], 2):
            if inspect.ismodule(found) and not hasattr(found, part):
                found = importlib.import_module(".".join(parts[:end]))
            else:
                found = getattr(found, part)


def test_names_of_the_reference_are_imported_from_the_package_itself():
    text = text_of(ROOT / "docs/reference/python.md")
    answers = text.partition("## What it answers")[2].partition("\n## ")[0]
    names = re.findall(r"^::: mnemonics_tf\.[\w.]+\.(\w+)$", text.replace(answers, ""), re.MULTILINE)
    assert {"IncrementalLearner", "ResNet", "Probe", "BusyError"} <= set(names)
    assert [name for name in names if not hasattr(mnemonics_tf, name)] == []


def test_whatever_configurations_bind_is_in_the_reference():
    text = "".join(text_of(ROOT / f"docs/reference/{page}.md") for page in ("python", "methods-and-runs"))
    described = set(re.findall(r"^::: (mnemonics_tf\.[\w.]+)$", text, re.MULTILINE))
    bound = {f"{each.__module__}.{each.__qualname__}" for each in CONFIGURABLES.values()}
    assert bound - described == set()


def _rows_of_paper() -> list[tuple[list[str], list[str]]]:
    """Files and names of each row of the paper's map."""
    rows = []
    for line in text_of(ROOT / "docs/paper-to-code.md").splitlines():
        if line.startswith("| ") and ".py`" in line:
            *_, files, where = line.strip("| ").split(" | ")
            rows.append((re.findall(r"`([^`]+\.py)`", files), re.findall(r"`([\w.]+)`", where.partition(":")[0])))
    return rows


def _defined(tree: ast.AST) -> set[str]:
    """Functions, classes, methods (`Class.method`) and constants of a module."""
    found = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
            if isinstance(node, ast.ClassDef):
                found |= {f"{node.name}.{inner}" for inner in _defined(node)}
        elif isinstance(node, ast.AnnAssign | ast.Assign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def test_functions_behind_the_equations_are_where_the_map_says():
    rows = _rows_of_paper()
    assert len(rows) > 35
    for files, names in rows:
        assert files, names
        assert names, files
        defined = set().union(*(_defined(ast.parse(text_of(ROOT / "mnemonics_tf" / file))) for file in files))
        assert set(names) <= defined, (files, names)


def test_map_has_every_equation_and_every_line_of_the_algorithm():
    text = text_of(ROOT / "docs/paper-to-code.md")
    equations = re.findall(r"^\| (\d+)", text.partition("## Algorithm 1")[0], re.MULTILINE)
    assert sorted({int(each) for each in equations}) == list(range(1, 15))
    lines = re.findall(r"^\| ([\d, to]+) \|", text.partition("## Algorithm 1")[2], re.MULTILINE)
    spans = [
        re.sub(r"(\d+) to (\d+)", lambda m: ", ".join(map(str, range(int(m[1]), int(m[2]) + 1))), x) for x in lines
    ]
    # Lines 1, 3, 5, 9 and 21 are the loop and its branches.
    assert {int(n) for span in spans for n in span.split(",")} == set(range(1, 22)) - {1, 3, 5, 9, 21}


def test_pictures_are_small():
    sizes = [path.stat().st_size for path in (ROOT / "docs/pictures").glob("*.png")]
    assert len(sizes) >= 6
    assert max(sizes) < 100_000
