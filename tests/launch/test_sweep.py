"""Sweeps through the command line: mostly of a stand-in for `mnemonics_tf.main`, once of itself."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import fake_main
import pytest
from conftest import ROOT, TINY_BINDINGS

SWEEP = ROOT / "launch/sweep.py"
SWEEP_OF_FAKES = ROOT / "tests/launch/sweep_of_fakes.py"
PATIENCE = 60  # seconds; far more than anything here takes


def _write_grid(folder: Path, **fields: object) -> Path:
    """A grid of LwF and LUCIR with N = 2, unless `fields` say otherwise."""
    fields = {
        "methods": ("lwf", "lucir"),
        "configs": ("configs/datasets/digits.gin",),
        "exemplars": {"without": ("configs/base_method.gin",), "ours": ()},
        "num_phases": (2,),
        "seeds": (0,),
        **fields,
    }
    path = folder / "grid.gin"
    path.write_text("".join(f"Grid.{name} = {value!r}\n" for name, value in fields.items()))
    return path


def _command(output_dir: Path, *flags: str, script: Path = SWEEP_OF_FAKES) -> list[str]:
    return [
        sys.executable,
        str(script),
        f"--grid={output_dir.parent / 'grid.gin'}",
        f"--output_dir={output_dir}",
        *flags,
    ]


def _call(command: Sequence[str]) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, text=True, timeout=5 * PATIENCE)


def _calls(output_dir: Path, what: str) -> list[str]:
    """Names of the runs that were started or have ended, in that order."""
    path = output_dir / "calls.txt"
    lines = path.read_text().splitlines() if path.is_file() else []
    return [line.split()[1] for line in lines if line.startswith(what)]


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "It did not happen."
        time.sleep(0.02)


@pytest.fixture
def output_dir(tmp_path) -> Path:
    """A folder of runs that is not there yet, beside the grid, and has a name that shells would split."""
    _write_grid(tmp_path)
    return tmp_path / "runs of fakes"


def test_runs_all_in_order_and_a_second_call_starts_nothing(output_dir):
    _write_grid(output_dir.parent, seeds=(0, 1), bindings=("ModelLevel.epochs = 3",))
    done = _call(_command(output_dir))
    assert (done.returncode, done.stderr) == (0, "")
    names = [
        f"{method}-{variant}-n2-seed{seed}"
        for seed in (0, 1)
        for method in ("lwf", "lucir")
        for variant in ("without", "ours")
    ]
    assert _calls(output_dir, "start") == names
    # A line for each change, of which some phases may be too quick; (90 + 89 + 88) / 3 = 89.
    assert all(f"{name}: phase 0/2, " in done.stdout for name in names)
    assert all(f"{name}: finished, average 89.00 %, " in done.stdout for name in names)
    assert done.stdout.splitlines()[-1] == f"tables  python -m mnemonics_tf.report '{output_dir}'"
    again = _call(_command(output_dir))
    assert again.returncode == 0
    assert _calls(output_dir, "start") == names
    # What its three phases took.
    assert f"{names[0]}: finished, average 89.00 %, 6 s" in again.stdout


def test_run_gets_files_and_bindings_in_the_order_in_which_they_override(output_dir):
    variant = ("configs/base_method.gin", "b.c = 2")
    _write_grid(output_dir.parent, methods=("lucir",), exemplars={"x": variant}, bindings=("a.b = 1",))
    assert _call(_command(output_dir)).returncode == 0
    shown = (output_dir / "logs/lucir-x-n2-seed0.txt").read_text().splitlines()
    flags = [f"--output_dir={output_dir}/lucir-x-n2-seed0", f"--initial_phases_dir={output_dir}/initial_phases"]
    arguments = (
        "--gin_file=configs/methods/lucir.gin --gin_file=configs/datasets/digits.gin "
        "--gin_file=configs/base_method.gin '--gin_param=a.b = 1' '--gin_param=b.c = 2' "
        "'--gin_param=Protocol.num_phases = 2' '--gin_param=Experiment.seed = 0'"
    )
    command, checksum = shown[0].split("  # gin files ")
    words = shlex.split(command)
    assert words[2].endswith("fake_main.py")
    assert words[3:] == flags + shlex.split(arguments)
    configuration = hashlib.sha256((output_dir / "lucir-x-n2-seed0/config.gin").read_bytes()).hexdigest()[:16]
    finished = f"finished: {arguments}  # gin files {checksum}, configuration {configuration}"
    assert shown[1:] == ["on standard output", finished]


def test_after_a_failure_it_goes_on_and_lists_the_failed_run_at_the_end(output_dir):
    _write_grid(output_dir.parent, exemplars={"bad": ("fake.fail_at = 1",), "good": ()})
    done = _call(_command(output_dir))
    assert done.returncode == 1
    assert _calls(output_dir, "end") == ["lwf-good-n2-seed0", "lucir-good-n2-seed0"]
    assert done.stderr.splitlines() == [
        line
        for name in ("lwf-bad-n2-seed0", "lucir-bad-n2-seed0")
        for line in (
            f"sweep: {name} failed with exit code 7: mnemonics_tf: the loss became nan. The settings were:",
            f"       {output_dir}/logs/{name}.txt",
        )
    ]
    assert "lwf-bad-n2-seed0: failed, average 90.00 %, " in done.stdout
    # Later calls try again what failed, and nothing else.
    before = len(_calls(output_dir, "start"))
    assert _call(_command(output_dir)).returncode == 1
    assert _calls(output_dir, "start")[before:] == ["lwf-bad-n2-seed0", "lucir-bad-n2-seed0"]


def test_run_that_another_process_has_is_left_to_it(output_dir):
    _write_grid(output_dir.parent, methods=("lwf",), exemplars={"taken": ("fake.busy = True",), "free": ()})
    done = _call(_command(output_dir))
    assert done.returncode == 1
    assert done.stderr == "sweep: lwf-taken-n2-seed0 is being run by another process, and was left to it.\n"
    assert "lwf-taken-n2-seed0: busy elsewhere, " in done.stdout
    assert _calls(output_dir, "end") == ["lwf-free-n2-seed0"]


def test_run_that_ends_early_without_an_error_has_failed(output_dir):
    _write_grid(output_dir.parent, methods=("lwf",), exemplars={"x": ("fake.quit_at = 1",)})
    done = _call(_command(output_dir))
    assert done.returncode == 1
    assert "failed with exit code 0: on standard output" in done.stderr


def _started_by_a_call(output_dir: Path, exit_code: int = 0) -> list[str]:
    """Names of the runs that one more sweep starts."""
    before = len(_calls(output_dir, "start"))
    assert _call(_command(output_dir)).returncode == exit_code
    return _calls(output_dir, "start")[before:]


def test_finished_run_with_other_arguments_is_left_to_main_which_refuses_it(output_dir):
    def write(*bindings: str) -> None:
        _write_grid(output_dir.parent, methods=("lwf",), exemplars={"ours": bindings}, seeds=(0,))

    write()
    assert _started_by_a_call(output_dir) == ["lwf-ours-n2-seed0"]
    write("a.b = 'x y'")
    # The second time too.
    assert _started_by_a_call(output_dir, exit_code=1) == ["lwf-ours-n2-seed0"]
    assert _started_by_a_call(output_dir, exit_code=1) == ["lwf-ours-n2-seed0"]
    write()
    assert _started_by_a_call(output_dir) == []


def test_run_that_another_command_has_made_since_is_left_to_main(output_dir):
    def write(*bindings: str) -> None:
        _write_grid(output_dir.parent, methods=("lwf",), exemplars={"ours": bindings}, seeds=(0,))

    folder, log = output_dir / "lwf-ours-n2-seed0", output_dir / "logs/lwf-ours-n2-seed0.txt"
    write()
    assert _started_by_a_call(output_dir) == [folder.name]
    shutil.rmtree(folder)
    write("a.b = 2")
    assert _started_by_a_call(output_dir) == [folder.name]
    # The sweep was killed before it could note that.
    log.write_text(
        "".join(line for line in log.read_text().splitlines(True) if "finished: " not in line or "a.b" not in line)
    )
    write()
    assert _started_by_a_call(output_dir, exit_code=1) == [folder.name]


def test_sweep_goes_on_when_nobody_reads_its_lines_any_more(output_dir):
    _write_grid(output_dir.parent, methods=("lwf",), exemplars={"ours": ()}, seeds=(0, 1))
    with open("/dev/full", "w") as full:
        done = subprocess.run(_command(output_dir), stdout=full, stderr=subprocess.PIPE, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert _calls(output_dir, "end") == ["lwf-ours-n2-seed0", "lwf-ours-n2-seed1"]


@pytest.mark.parametrize("changed", ["top.gin", "parts/included.gin"])
def test_finished_run_whose_gin_files_have_changed_is_left_to_main(output_dir, changed):
    folder = output_dir.parent
    (folder / "parts").mkdir()
    (folder / "parts/included.gin").write_text("# one\n")
    (folder / "top.gin").write_text("include 'parts/included.gin'\n")
    variants = {"edited": (str(folder / "top.gin"),), "other": ()}
    _write_grid(folder, methods=("lwf",), exemplars=variants)
    assert len(_started_by_a_call(output_dir)) == 2
    assert _started_by_a_call(output_dir) == []
    with open(folder / changed, "a") as file:
        file.write("# a comment, with which main has no quarrel\n")
    assert _started_by_a_call(output_dir) == ["lwf-edited-n2-seed0"]
    assert _started_by_a_call(output_dir) == []
    with open(folder / "top.gin", "a") as file:
        file.write("a.b = 1\n")
    done = _call(_command(output_dir))
    assert done.returncode == 1
    assert "lwf-edited-n2-seed0 failed with exit code 2: mnemonics_tf: " in done.stderr


def test_finished_run_whose_log_is_gone_is_left_to_main(output_dir):
    _write_grid(output_dir.parent, methods=("lwf",), exemplars={"ours": ()})
    _started_by_a_call(output_dir)
    (output_dir / "logs/lwf-ours-n2-seed0.txt").unlink()
    assert _started_by_a_call(output_dir) == ["lwf-ours-n2-seed0"]
    assert _started_by_a_call(output_dir) == []


def test_run_is_complete_by_its_own_number_of_phases(output_dir):
    # As with a gin file that binds Protocol.sizes.
    _write_grid(output_dir.parent, methods=("lwf",), exemplars={"ours": ("fake.num_phases = 4",)})
    assert _started_by_a_call(output_dir) == ["lwf-ours-n2-seed0"]
    assert _started_by_a_call(output_dir) == []
    fake_main.write_results(output_dir / "lwf-ours-n2-seed0", 3, num_phases=4)
    assert _started_by_a_call(output_dir) == ["lwf-ours-n2-seed0"]


def test_unreadable_results_count_as_none(output_dir):
    _write_grid(output_dir.parent, methods=("lwf",), exemplars={"ours": ()})
    _started_by_a_call(output_dir)
    (output_dir / "lwf-ours-n2-seed0/results.json").write_text('{"phases": [')
    assert _started_by_a_call(output_dir, exit_code=1) == ["lwf-ours-n2-seed0"]


def test_two_jobs_run_at_once_and_no_more(output_dir):
    # Each of the first two waits until both have been started.
    _write_grid(output_dir.parent, bindings=("fake.meet = 2",))
    done = _call(_command(output_dir, "--jobs=2"))
    assert done.returncode == 0, done.stderr
    going_on = most = 0
    for line in (output_dir / "calls.txt").read_text().splitlines():
        going_on += 1 if line.startswith("start") else -1
        most = max(most, going_on)
    assert most == 2


@contextlib.contextmanager
def _hanging_sweep(output_dir: Path, *flags: str, num_runs: int) -> Iterator[subprocess.Popen]:
    """A sweep of runs that hang before phase 1, once `num_runs` of them do."""
    sweep = subprocess.Popen(
        _command(output_dir, *flags), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=output_dir.parent
    )
    try:
        _wait_until(lambda: len(list(output_dir.glob("*/results.json"))) == num_runs)
        yield sweep
    finally:
        sweep.terminate()  # does nothing to one that has ended
        sweep.communicate(timeout=PATIENCE)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # Nobody may have asked yet how it ended.
    status = Path(f"/proc/{pid}/stat")
    return not status.is_file() or status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.fixture
def heeded_hangup():
    """Children of tests that were started with nohup ignore that signal, as the sweep is meant to then."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("heeded_hangup")
@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_ends_the_runs_and_the_same_command_goes_on(output_dir, signal_number):
    exemplars = {"meek": ("fake.hang_at = 1",), "deaf": ("fake.hang_at = 1", "fake.deaf = True")}
    _write_grid(output_dir.parent, methods=("lwf",), exemplars=exemplars)
    with _hanging_sweep(output_dir, "--jobs=2", num_runs=2) as sweep:
        pids = [int(line.split()[2]) for line in (output_dir / "calls.txt").read_text().splitlines()]
        assert all(_is_running(pid) for pid in pids)
        sweep.send_signal(signal_number)
        _, stderr = sweep.communicate(timeout=PATIENCE)
        assert sweep.returncode == 3
    _wait_until(lambda: not any(_is_running(pid) for pid in pids))
    assert stderr.startswith("sweep: stopped. To go on: python ")
    assert f"'--output_dir={output_dir}' --jobs=2" in stderr
    assert stderr.count("\n") == 1
    # A fake that has phases goes on with the next one, and hangs no more.
    again = _call(_command(output_dir, "--jobs=2"))
    assert again.returncode == 0, again.stderr
    assert "lwf-meek-n2-seed0: phase 1/2, average 90.00 %, " in again.stdout
    assert sorted(_calls(output_dir, "end")) == ["lwf-deaf-n2-seed0", "lwf-meek-n2-seed0"]


def test_second_ctrl_c_waits_for_no_run(output_dir):
    _write_grid(output_dir.parent, methods=("lwf",), exemplars={"deaf": ("fake.hang_at = 1", "fake.deaf = True")})
    with _hanging_sweep(output_dir, num_runs=1) as sweep:
        (pid,) = (int(line.split()[2]) for line in (output_dir / "calls.txt").read_text().splitlines())
        sweep.send_signal(signal.SIGINT)
        time.sleep(0.3)  # less than the sweep waits for the run
        sweep.send_signal(signal.SIGINT)
        _, stderr = sweep.communicate(timeout=PATIENCE)
        assert sweep.returncode == 130
    _wait_until(lambda: not _is_running(pid))
    assert stderr.startswith("sweep: stopped. To go on: python ")


@pytest.mark.parametrize("planted", ["link", "pipe", "folder"])
def test_what_others_put_in_the_place_of_a_log_is_not_written_to(output_dir, planted):
    _write_grid(output_dir.parent, methods=("lwf",), exemplars={"a": (), "b": ()})
    log = output_dir / "logs/lwf-a-n2-seed0.txt"
    log.parent.mkdir(parents=True)
    victim = output_dir.parent / "victim"
    victim.write_text("untouched")
    {"link": lambda: log.symlink_to(victim), "pipe": lambda: os.mkfifo(log), "folder": log.mkdir}[planted]()
    done = _call(_command(output_dir))
    assert done.returncode == 1
    assert "sweep: lwf-a-n2-seed0 failed: it cannot be started: " in done.stderr
    assert done.stderr.count("\n") == 2
    assert _calls(output_dir, "end") == ["lwf-b-n2-seed0"]
    assert victim.read_text() == "untouched"


def test_only_runs_that_run_alone(output_dir):
    done = _call(_command(output_dir, "--only=2"))
    assert done.returncode == 0
    assert _calls(output_dir, "start") == ["lucir-without-n2-seed0"]


def test_slurm_script_runs_each_run_in_a_task_of_its_own(output_dir):
    script = output_dir.parent / "the script.sh"
    done = _call(_command(output_dir, f"--slurm={script}", "--jobs=3"))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"4 runs. Submit them with: sbatch '{script}'\n"
    assert not (output_dir / "calls.txt").exists()
    assert subprocess.run(["bash", "-n", str(script)]).returncode == 0
    lines = script.read_text().splitlines()
    assert "#SBATCH --array=0-3%3" in lines
    assert f'#SBATCH --output="{output_dir}/logs/slurm-%a.txt"' in lines
    assert (output_dir / "logs").is_dir()  # Slurm would not make it
    assert f"# Submit:  sbatch '{script}'" in lines
    # A task, with fakes.
    script.write_text(script.read_text().replace(str(SWEEP), str(SWEEP_OF_FAKES)))
    task = subprocess.run(
        ["bash", str(script)], capture_output=True, text=True, env={**os.environ, "SLURM_ARRAY_TASK_ID": "1"}
    )
    assert (task.returncode, task.stderr) == (0, "")
    assert _calls(output_dir, "start") == ["lwf-ours-n2-seed0"]
    # It may have been edited.
    before = script.read_text()
    again = _call(_command(output_dir, f"--slurm={script}"))
    assert again.returncode == 2
    assert again.stderr == (
        f"sweep: --slurm = {script}: the file exists, and may have been edited. Name another, or delete it.\n"
    )
    assert script.read_text() == before


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--jobs=0"], "--jobs = 0: expected a whole number of at least 1."),
        (["--jobs=many"], "flag --jobs=many"),
        (["--job=1"], "Unknown command line flag 'job'"),
        (["--only=4"], "--only = 4: expected 0 to 3, for 4 runs."),
        (["--only=-1"], "--only = -1: expected 0 to 3, for 4 runs."),
        (["--only=1", "--slurm=x.sh"], "--slurm and --only"),
        (["--slurm=/no/such/folder/x.sh"], "--slurm = /no/such/folder/x.sh: cannot be written (No such file"),
        (["--slurm=/tmp/a\nb.sh"], "has characters that a Slurm script cannot hold."),
        (["everything"], "Unexpected argument 'everything'"),
        (["--grid=configs/sweeps/digit.gin"], "Did you mean 'digits.gin'?"),
        (["--grid=/dev/zero"], "--grid = /dev/zero: that is no file, but a pipe, a device,"),
        (["--grid=configs"], "--grid = configs: that is a folder."),
        (["--output_dir="], "--output_dir is empty: expected a folder. Leave it out for runs/grid."),
        (["--output_dir=/proc/runs"], "--output_dir = /proc/runs: cannot be used"),
        (["--output_dir=README.md"], "--output_dir = README.md: cannot be used"),
    ],
)
def test_wrong_flag_is_one_line_and_exit_code_2(output_dir, flags, message):
    done = subprocess.run(_command(output_dir, *flags), capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert done.stderr.startswith("sweep: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (output_dir / "calls.txt").exists()


def test_missing_grid_and_wrong_grid_are_one_line_and_exit_code_2(output_dir):
    done = _call([sys.executable, str(SWEEP)])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "sweep: No --grid was given. Try --grid=configs/sweeps/digits.gin.\n"
    (output_dir.parent / "grid.gin").write_text('include "nowhere.gin"\n')
    done = _call(_command(output_dir))
    assert done.returncode == 2
    assert "nowhere.gin" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not output_dir.exists()


def test_starts_without_tensorflow():
    code = f"import sys; sys.path.insert(0, {str(SWEEP.parent)!r}); import sweep; print('tensorflow' in sys.modules)"
    assert _call([sys.executable, "-c", code]).stdout == "False\n"
    shown = _call([sys.executable, str(SWEEP), "--help"]).stdout
    assert all(flag in shown for flag in ("--grid", "--output_dir", "--jobs", "--only", "--slurm"))


@pytest.mark.heavy
def test_sweep_of_real_runs(output_dir):
    _write_grid(
        output_dir.parent,
        methods=("lucir",),
        configs=("configs/datasets/digits.gin", "configs/schedules/digits.gin"),
        exemplars={"without": ("configs/base_method.gin", "Probe.enabled = False")},
        num_phases=(1,),
        seeds=(0, 1),
        bindings=tuple(binding for binding in TINY_BINDINGS if not binding.startswith("Protocol.num_phases")),
    )
    done = _call(_command(output_dir, "--jobs=2", script=SWEEP))
    assert (done.returncode, done.stderr) == (0, "")
    for seed in (0, 1):
        results = json.loads((output_dir / f"lucir-without-n1-seed{seed}/results.json").read_text())
        assert (results["method"], results["seed"], len(results["phases"])) == ("lucir", seed, 2)
        average = results["average_accuracy"][results["primary_classifier"]]
        assert f"lucir-without-n1-seed{seed}: finished, average {average:.2f} %, " in done.stdout
    assert (output_dir / "initial_phases").is_dir()
    logs = {path: path.stat().st_mtime_ns for path in (output_dir / "logs").iterdir()}
    assert _call(_command(output_dir, script=SWEEP)).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in (output_dir / "logs").iterdir()} == logs
