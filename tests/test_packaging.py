"""What is installed: the configurations come along, within the package, and one command for all that it does."""

from __future__ import annotations

import ast
import fnmatch
import subprocess
import sys
import zipfile
from importlib import util

import pytest
from conftest import ROOT

import mnemonics_tf
from mnemonics_tf import commands

_CONFIGS = sorted(str(path.relative_to(ROOT / "configs")) for path in (ROOT / "configs").rglob("*.gin"))


def _setup_arguments() -> dict[str, ast.expr]:
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    (call,) = (
        node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".setup")
    )
    return {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}


def test_every_configuration_is_installed_within_the_package():
    arguments = _setup_arguments()
    assert ast.literal_eval(arguments["package_dir"]) == {"mnemonics_tf.configs": "configs"}
    assert "mnemonics_tf.configs" in ast.unparse(arguments["packages"])
    patterns = ast.literal_eval(arguments["package_data"])["mnemonics_tf.configs"]
    # As setuptools matches them: '*' does not cross a folder.
    fitting = [
        name
        for name in _CONFIGS
        if any(name.count("/") == each.count("/") and fnmatch.fnmatch(name, each) for each in patterns)
    ]
    assert fitting == _CONFIGS


def test_wheel_has_all_that_runs_need(tmp_path):
    # Built by what is installed: a test must not need the network.
    build = f"import setuptools.build_meta as build; print(build.build_wheel({str(tmp_path)!r}))"
    copy = tmp_path / "source"
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "mnemonics_tf", "configs"):
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).symlink_to(ROOT / name)
    finished = subprocess.run([sys.executable, "-c", build], cwd=copy, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (entry,) = (archive.read(name).decode() for name in names if name.endswith("entry_points.txt"))
    assert "mnemonics-tf = mnemonics_tf.commands:main" in entry
    assert {f"mnemonics_tf/configs/{name}" for name in _CONFIGS} <= names
    assert {"mnemonics_tf/py.typed", "mnemonics_tf/report/paper_results.csv"} <= names
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "mnemonics_tf").rglob("*.py")}
    assert modules <= names


@pytest.mark.parametrize("command", commands.COMMANDS)
def test_every_command_runs_a_module_that_is_there(command):
    module, purpose = commands.COMMANDS[command]
    assert util.find_spec(module) is not None
    assert purpose


def _run(*arguments: str) -> subprocess.CompletedProcess:
    script = "import sys; from mnemonics_tf import commands; sys.exit(commands.main())"
    return subprocess.run([sys.executable, "-c", script, *arguments], cwd=ROOT, capture_output=True, text=True)


def test_a_command_is_its_module_with_the_rest_of_the_line():
    finished = _run("run", "--gin_file=configs/lucir_digit.gin")
    assert finished.returncode == 2
    assert finished.stderr.strip().startswith(
        "mnemonics_tf: --gin_file = configs/lucir_digit.gin: there is no such file."
    )
    assert "lucir_digits.gin" in finished.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "out", "err"),
    [
        (["--version"], 0, f"mnemonics_tf {mnemonics_tf.__version__}\n", ""),
        (["run", "--version"], 0, f"mnemonics_tf {mnemonics_tf.__version__}\n", ""),
        (["learn", "--version"], 0, f"mnemonics_tf {mnemonics_tf.__version__}\n", ""),
        (["reprot"], 2, "", "mnemonics-tf: 'reprot' is no command: expected one of run, report"),
        ([], 2, "", "mnemonics-tf COMMAND [flags]"),
    ],
)
def test_command_line_says_what_it_is(arguments, code, out, err):
    finished = _run(*arguments)
    assert (finished.returncode, finished.stdout) == (code, out)
    assert finished.stderr.startswith(err)
    assert finished.stderr.count("\n") <= 1 or not arguments
