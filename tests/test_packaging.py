"""What is installed: the configurations come along, within the package."""

from __future__ import annotations

import ast
import fnmatch

from conftest import ROOT

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
