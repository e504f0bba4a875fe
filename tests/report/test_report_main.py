"""The command line of the report."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest
from page_folders import write_full_run
from run_folders import WITHOUT_OURS, call_report, write_run, write_seeds

_ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def call(capsys):
    return functools.partial(call_report, capsys)


def _titles(text):
    return [line.split()[1] for line in text.splitlines() if line.startswith("Table ")]


def test_tables_are_those_in_which_a_run_has_a_place(call, tmp_path):
    write_run(tmp_path / "a", **WITHOUT_OURS)
    code, shown, errors = call(tmp_path)
    assert (code, errors) == (0, "")
    assert "without ours" in shown
    assert _titles(shown) == ["1"]
    write_run(tmp_path / "b")
    assert _titles(call(tmp_path)[1]) == ["1", "2", "S1"]


def test_runs_that_no_table_has_are_shown_all_the_same(call, tmp_path):
    write_run(tmp_path / "digits", dataset="digits", phase_sizes=[5, 1, 1, 1, 1, 1])
    shown = call(tmp_path)[1]
    assert shown.splitlines()[2].startswith("digits")
    assert _titles(shown) == []


def test_tables_can_be_asked_for(call, tmp_path):
    write_run(tmp_path / "run")
    assert _titles(call(tmp_path, "--tables=S2,1")[1]) == ["1", "S2"]
    assert _titles(call("--tables=2")[1]) == ["2"]
    assert _titles(call("--tables=all")[1]) == ["1", "2", "S1", "S2"]


def test_reader_who_has_seen_enough_is_no_error(tmp_path):
    write_run(tmp_path / "run")
    command = [sys.executable, "-m", "mnemonics_tf.report", "--no_tsne", str(tmp_path / "run")]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=_ROOT, text=True, **pipes) as process:
        process.stdout.close()
        errors = process.stderr.read()
    assert (process.returncode, errors) == (0, "")
    assert (tmp_path / "run/report/index.html").is_file()  # what comes after the tables is written


def test_what_did_not_go_as_configured_is_told_of_each_run(call, tmp_path):
    write_full_run(tmp_path / "runs/a", seed=1)
    write_run(tmp_path / "runs/b", phase_sizes=[5, 1, 1])
    code, shown, errors = call(tmp_path / "runs")
    assert (code, errors) == (0, "")
    assert shown.endswith(
        "\n\nWhat did not go as configured:\n"
        f"  {tmp_path}/runs/a, phase 1: half of <b>phase 1</b> was left out.\n"
        f"  {tmp_path}/runs/a, phase 2: half of <b>phase 2</b> was left out.\n"
    )


def test_unfinished_runs_are_named_in_one_line(call, tmp_path):
    write_run(tmp_path / "done")
    write_run(tmp_path / "one", num_complete=1)
    write_run(tmp_path / "two", num_complete=5)
    lines = [line for line in call(tmp_path)[1].splitlines() if "not finished" in line]
    assert lines == [
        f"Left out, for they are not finished: {tmp_path}/one (1 of 6 phases), {tmp_path}/two (5 of 6 phases)."
    ]


def test_foreign_and_damaged_runs_are_named_and_the_others_shown(call, tmp_path):
    write_run(tmp_path / "done")
    damaged = write_run(tmp_path / "da\x1b[31mmaged")
    (damaged / "results.json").unlink()
    os.mkfifo(damaged / "results.json")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign/results.json").write_text('{"score": 3}')
    code, shown, errors = call(tmp_path)
    assert (code, errors) == (0, "")
    assert _titles(shown) == ["1", "2", "S1"]
    left_out = shown.partition("Left out, for they cannot be read:\n")[2].splitlines()
    assert left_out[0].startswith(f"  {tmp_path}/da\\x1b[31mmaged/results.json is damaged: it is a pipe")
    assert left_out[1].startswith(f"  {tmp_path}/foreign/results.json has schema_version None")
    code, shown, errors = call(damaged)
    assert (code, shown, errors.count("\n")) == (2, "", 1)
    assert "\x1b" not in errors


def test_runs_that_repeat_others_are_named_in_a_line_each(call, tmp_path):
    write_run(tmp_path / "table1/lucir-ours")
    write_run(tmp_path / "table2/mnemonics_adjusted")
    code, shown, errors = call(tmp_path)
    assert (code, errors) == (0, "")
    line = f"  {tmp_path}/table2/mnemonics_adjusted: repeats {tmp_path}/table1/lucir-ours, with the same results\n"
    assert f"\n\nLeft out, for another run counts:\n{line}\n" in shown
    assert _titles(shown) == ["1", "2", "S1"]


def test_folder_with_nothing_but_unfinished_runs_says_so(call, tmp_path):
    write_run(tmp_path / "one", num_complete=1)
    code, shown, _ = call(tmp_path)
    assert code == 0
    assert shown == f"Left out, for they are not finished: {tmp_path}/one (1 of 6 phases).\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "No RUN_DIR was given"),
        (("no/such/folder",), "no/such/folder: there is no such folder"),
        (("--tables=3",), "--tables = '3': expected one of '1', '2', 'S1', 'S2', 'all'"),
        (("--tables=1", "--output_dir=page"), "--output_dir = page: without a RUN_DIR there is no page"),
        (("runs", "--output_dir="), "--output_dir is empty: expected a folder."),
    ],
)
def test_mistake_is_one_line_and_exit_code_2(call, arguments, message):
    code, shown, errors = call(*arguments)
    assert (code, shown) == (2, "")
    assert errors.startswith("mnemonics_tf: ")
    assert message in errors
    assert errors.count("\n") == 1


def _run_module(*arguments):
    command = [sys.executable, "-m", "mnemonics_tf.report", *map(str, arguments)]
    return subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=60)


def test_module_runs_as_a_command(tmp_path):
    write_run(tmp_path / "run")
    shown = _run_module(tmp_path, "--tables=S1")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert _titles(shown.stdout) == ["S1"]
    mistaken = _run_module("--table=1", tmp_path)
    assert mistaken.returncode == 2
    assert mistaken.stderr.startswith("mnemonics_tf: ")
    assert mistaken.stderr.count("\n") == 1


def test_terminal_that_knows_ascii_only_gets_other_characters(tmp_path, monkeypatch):
    # An interval over seeds is written with a plus-minus sign.
    write_seeds(tmp_path / "żółw", [60, 61])
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    shown = _run_module(tmp_path)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "60.50* ? " in shown.stdout
    mistaken = _run_module(tmp_path / "żółw" / "nowhere")
    assert (mistaken.returncode, mistaken.stderr.count("\n")) == (2, 1)


def test_report_does_not_wait_for_tensorflow(tmp_path):
    write_run(tmp_path / "run")
    script = (
        "import sys; from absl import flags; from mnemonics_tf.report import __main__ as main;"
        "assert main.main(flags.FLAGS(sys.argv)) == 0; print('tensorflow' in sys.modules, file=sys.stderr)"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    finished = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=60)
    assert finished.stderr == "False\n"
