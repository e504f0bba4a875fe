"""Scripts that start runs of several workers, with stand-ins for what they start."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import fake_project
import pytest
from conftest import ROOT
from fake_project import environment, told, write_program

PATIENCE = 60  # seconds; far more than anything here takes


@pytest.fixture
def project(tmp_path) -> Path:
    """A project of stand-ins."""
    return fake_project.make(tmp_path)


def _call_cluster(project: Path, *arguments: str, deeds: dict | None = None, **variables: str) -> subprocess.Popen:
    """`local_cluster.sh`, started from another folder."""
    return subprocess.Popen(
        ["bash", str(project / "launch/local_cluster.sh"), *arguments],
        cwd=project.parent,
        env=environment(project, DEEDS=json.dumps(deeds or {}), **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _finish(process: subprocess.Popen) -> tuple[int, str, str]:
    stdout, stderr = process.communicate(timeout=PATIENCE)
    return process.returncode, stdout, stderr


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "It did not happen."
        time.sleep(0.02)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.is_file() or status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("script", ["local_cluster.sh", "slurm.sh"])
def test_scripts_parse(script):
    assert subprocess.run(["bash", "-n", str(ROOT / "launch" / script)]).returncode == 0


def test_local_workers_share_a_cluster_and_have_places_of_their_own(project):
    flags = ("--gin_file=a b.gin", "--gin_param=c.d = 'e'")
    code, stdout, stderr = _finish(_call_cluster(project, *flags, WORKERS="3", https_proxy="http://127.0.0.1:1"))
    assert (code, stderr) == (0, "")
    workers = told(project)
    clusters = [worker["config"]["cluster"] for worker in workers]
    assert clusters == [clusters[0]] * 3
    addresses = clusters[0]["worker"]
    assert len(set(addresses)) == 3
    assert all(re.fullmatch(r"127\.0\.0\.1:\d{4,5}", address) for address in addresses)
    assert [worker["config"]["task"] for worker in workers] == [{"type": "worker", "index": i} for i in range(3)]
    assert all(worker["arguments"] == list(flags) for worker in workers)
    assert all(Path(worker["cwd"]) == project for worker in workers)
    assert all(worker["grpc_proxy"] == "" for worker in workers)
    # The screen has the first worker and says where the others are.
    first, *named, last = stdout.splitlines()
    assert first.startswith("3 workers (each: 0 GPUs, ")
    assert last == "screen of 0"
    assert [Path(line.strip()).read_text() for line in named] == ["screen of 1\n", "screen of 2\n"]


def test_local_workers_share_the_cores(project):
    write_program(project, "nproc", "echo 5")
    assert _finish(_call_cluster(project, "--x"))[0] == 0
    assert [worker["TF_NUM_INTRAOP_THREADS"] for worker in told(project)] == ["3", "3"]  # 5 / 2, rounded up
    assert _finish(_call_cluster(project, "--x", TF_NUM_INTRAOP_THREADS="7"))[0] == 0
    assert [worker["TF_NUM_INTRAOP_THREADS"] for worker in told(project)] == ["7", "7"]


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        ("4,5,6,7", ["4,5", "6,7"]),
        ("0,1,2", ["0", "1"]),  # alike for all
        ("0", ["-1", "-1"]),
        ("-1", ["-1", "-1"]),
        ("", ["-1", "-1"]),
    ],
)
def test_local_workers_get_gpus_of_their_own_or_none(project, visible, expected):
    assert _finish(_call_cluster(project, "--x", CUDA_VISIBLE_DEVICES=visible))[0] == 0
    assert [worker["CUDA_VISIBLE_DEVICES"] for worker in told(project)] == expected


def test_all_gpus_of_the_machine_are_dealt_out_where_none_are_named(project):
    write_program(project, "nvidia-smi", "printf 'GPU-a\\nGPU-b\\n'")
    variables = environment(project)
    del variables["CUDA_VISIBLE_DEVICES"]
    command = ["bash", str(project / "launch/local_cluster.sh"), "--x"]
    assert subprocess.run(command, env=variables, capture_output=True, timeout=PATIENCE).returncode == 0
    assert [worker["CUDA_VISIBLE_DEVICES"] for worker in told(project)] == ["GPU-a", "GPU-b"]
    # As where the driver is broken.
    write_program(project, "nvidia-smi", "echo NVIDIA-SMI has failed; exit 9")
    assert subprocess.run(command, env=variables, capture_output=True, timeout=PATIENCE).returncode == 0
    assert [worker["CUDA_VISIBLE_DEVICES"] for worker in told(project)] == ["-1", "-1"]


@pytest.mark.parametrize(
    ("deeds", "worker", "exit_code"),
    [
        ({"0": "wait", "1": "killed"}, 1, 137),
        ({"0": 3, "1": "wait"}, 0, 3),
        ({"0": "wait", "1": 0, "2": 1}, 2, 1),  # one that has finished is no death
    ],
)
def test_death_of_a_local_worker_ends_the_others_and_gives_its_exit_code(project, deeds, worker, exit_code):
    code, _, stderr = _finish(_call_cluster(project, "--x", deeds=deeds, WORKERS=str(len(deeds))))
    assert code == exit_code
    message = f"local_cluster.sh: worker {worker} ended with exit code {exit_code}, so the others were ended.\n"
    assert stderr.startswith(message)
    assert (f"screen of {worker}\n" in stderr) == (worker > 0)  # else it is on the screen
    assert stderr.endswith("The same command goes on from the step it was in.\n")
    assert not any(_is_running(worker["pid"]) for worker in told(project))


def test_worker_that_died_is_named_and_not_the_one_that_lost_it(project):
    code, _, stderr = _finish(_call_cluster(project, "--x", deeds={"0": "bereft", "1": "killed"}))
    assert (code, "worker 1 ended with exit code 137" in stderr) == (137, True)


def test_mistake_in_the_configuration_is_not_worth_the_same_command(project):
    code, _, stderr = _finish(_call_cluster(project, "--x", deeds={"0": 2, "1": "wait"}))
    assert code == 2
    assert stderr == "local_cluster.sh: worker 0 ended with exit code 2, so the others were ended.\n"


@contextlib.contextmanager
def _waiting_cluster(project: Path, deeds: dict) -> Iterator[subprocess.Popen]:
    """A cluster all of whose workers wait."""
    process = _call_cluster(project, "--x", deeds=deeds)
    try:
        _wait_until(lambda: len(list(project.glob("waits*"))) == len(deeds))
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # of this test's own session
        process.communicate(timeout=PATIENCE)


@pytest.mark.parametrize(
    ("signal_number", "to_all", "exit_code"),
    [(signal.SIGINT, True, 130), (signal.SIGINT, False, 130), (signal.SIGTERM, False, 143)],
)
def test_signal_ends_all_local_workers(project, signal_number, to_all, exit_code):
    with _waiting_cluster(project, {"0": "wait", "1": "wait"}) as process:
        if to_all:  # as a terminal does at Ctrl-C
            os.killpg(process.pid, signal_number)
        else:
            process.send_signal(signal_number)
        code, _, stderr = _finish(process)
        assert code == exit_code
        assert stderr.startswith("local_cluster.sh: stopped. ")
        assert stderr.count("\n") == 1
        assert not any(_is_running(worker["pid"]) for worker in told(project))


def test_worker_that_does_not_heed_is_killed(project):
    script = project / "launch/local_cluster.sh"
    impatient = script.read_text().replace("tick < 50", "tick < 3")
    assert impatient != script.read_text()
    script.write_text(impatient)
    with _waiting_cluster(project, {"0": "wait", "1": "deaf"}) as process:
        process.terminate()
        assert _finish(process)[0] == 143
        assert not any(_is_running(worker["pid"]) for worker in told(project))


@pytest.mark.parametrize("workers", ["1", "0", "two", "-2", "2.5"])
def test_number_of_local_workers_must_be_two_at_least(project, workers):
    code, _, stderr = _finish(_call_cluster(project, "--x", WORKERS=workers))
    assert code == 2
    assert stderr == f"local_cluster.sh: WORKERS = '{workers}': expected a whole number of at least 2.\n"


def test_local_cluster_explains_itself(project):
    code, stdout, stderr = _finish(_call_cluster(project, "--help"))
    assert (code, stderr) == (0, "")
    assert "Usage: bash launch/local_cluster.sh --gin_file=configs/lucir_digits.gin" in stdout
    code, _, stderr = _finish(_call_cluster(project))
    assert code == 2
    assert "expected flags: --gin_file=" in stderr
    assert told(project) == []


def _submit(project: Path, *arguments: str, **variables: str) -> subprocess.Popen:
    """`slurm.sh` as Slurm starts it: a copy elsewhere, in the folder of submission."""
    spooled = project.parent / "slurm_script"
    shutil.copy(project / "launch/slurm.sh", spooled)
    return subprocess.Popen(
        ["bash", str(spooled), *arguments],
        cwd=variables.pop("folder", project),
        env=environment(project, SLURM_JOB_ID="17", SLURM_CPUS_PER_TASK="32", **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


# Notes its arguments, one a line, then waits for `go`, a file, and ends with the code that it holds.
FAKE_SRUN = """
printf '%s\\n' "cpus=$SRUN_CPUS_PER_TASK" "proxy=${grpc_proxy-unset}" "$@" >srun.partial
mv srun.partial srun.txt
while ! [ -s go ]; do sleep 0.05; done
exit "$(cat go)"
"""


def _complete(project: Path, phase: int) -> None:
    folder = project / f"runs/x y/phases/{phase:03d}"
    folder.mkdir(parents=True)
    (folder / "COMPLETE").touch()


def test_slurm_job_starts_main_by_srun_and_ends_as_it_does(project):
    write_program(project, "srun", FAKE_SRUN)
    (project / "go").write_text("3")
    flags = ["--gin_file=a.gin", "--output_dir=runs/x y"]
    code, _, stderr = _finish(_submit(project, *flags))
    assert (code, stderr) == (3, "")
    noted = (project / "srun.txt").read_text().splitlines()
    main = [sys.executable, "-m", "mnemonics_tf.main", *flags]
    assert noted == ["cpus=32", "proxy=", "--kill-on-bad-exit=1", *main]


@pytest.mark.parametrize("progress", ["phase", "snapshot", ""])
def test_slurm_job_queues_itself_again_at_the_time_limit_if_something_was_kept(project, progress):
    write_program(project, "srun", FAKE_SRUN)
    write_program(project, "scontrol", 'echo "$@" >scontrol.txt')
    _complete(project, 0)  # by an earlier job
    snapshot = project / "runs/x y/phases/001.snapshots/train_model_steps.npz"
    snapshot.parent.mkdir()
    snapshot.touch()
    job = _submit(project, "--gin_file=a.gin", "--output_dir=runs/x y")
    try:
        _wait_until((project / "srun.txt").is_file)
        if progress == "phase":
            _complete(project, 1)
        elif progress:
            snapshot.write_text("newer")
        job.send_signal(signal.SIGUSR1)
        if progress:
            _wait_until(lambda: (project / "scontrol.txt").is_file() and (project / "scontrol.txt").stat().st_size > 0)
    finally:
        (project / "go").write_text("5")
    code, _, stderr = _finish(job)
    # The step goes on until Slurm ends it, and its exit code is not lost.
    assert code == 5
    assert stderr.startswith("slurm.sh: the time limit is near")
    if progress:
        assert (project / "scontrol.txt").read_text() == "requeue 17\n"
    else:
        assert not (project / "scontrol.txt").exists()
        assert "nothing was kept" in stderr


def test_slurm_job_finds_what_is_kept_below_the_home_folder(project):
    # Bash leaves a ~ behind an = as it is, and main does not.
    write_program(project, "srun", FAKE_SRUN)
    write_program(project, "scontrol", 'echo "$@" >scontrol.txt')
    job = _submit(project, "--gin_file=a.gin", "--output_dir=~/runs/x y", HOME=str(project))
    try:
        _wait_until((project / "srun.txt").is_file)
        assert "--output_dir=~/runs/x y" in (project / "srun.txt").read_text()
        _complete(project, 0)
        job.send_signal(signal.SIGUSR1)
        _wait_until(lambda: (project / "scontrol.txt").is_file() and (project / "scontrol.txt").stat().st_size > 0)
    finally:
        (project / "go").write_text("5")
    assert _finish(job)[0] == 5


def test_failed_installation_is_tried_again(tmp_path):
    for name in ("setup.py", "requirements.txt"):
        (tmp_path / name).touch()
    (tmp_path / "mnemonics_tf").mkdir()
    (tmp_path / "mnemonics_tf/__init__.py").touch()
    (tmp_path / "launch").mkdir()
    shutil.copy(ROOT / "launch/environment.sh", tmp_path / "launch")
    # There is a pip, and it reaches nothing until `works` is there.
    (tmp_path / ".venv/bin").mkdir(parents=True)
    python = tmp_path / ".venv/bin/python"
    python.write_text('#!/bin/bash\n[ "$3" = --version ] || { echo "$4" >>calls; [ -e works ]; }\n')
    python.chmod(0o755)

    def code() -> int:  # as docs/how-to/run-on-slurm.md has it, without `set -e`
        command = ["bash", "-c", ". launch/environment.sh"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode

    assert code() != 0
    assert code() != 0
    (tmp_path / "works").touch()
    assert code() == 0
    calls = len((tmp_path / "calls").read_text().splitlines())
    assert calls == 4  # the first step of two failed ones, and both of the third
    assert code() == 0
    assert len((tmp_path / "calls").read_text().splitlines()) == calls
    # Of a copy elsewhere the package is another.
    shutil.copytree(tmp_path, tmp_path.parent / "copy")
    subprocess.run(["bash", "-c", ". launch/environment.sh"], cwd=tmp_path.parent / "copy", check=True)
    assert len((tmp_path.parent / "copy/calls").read_text().splitlines()) == calls + 2


def test_slurm_job_needs_a_folder_that_all_machines_see(project):
    code, _, stderr = _finish(_submit(project, "--gin_file=a.gin"))
    assert code == 2
    assert stderr.startswith("slurm.sh: expected --output_dir=")


def test_slurm_job_outside_of_the_project_is_refused(project):
    code, _, stderr = _finish(_submit(project, "--gin_file=a.gin", "--output_dir=x", folder=str(project.parent)))
    assert code == 2
    assert stderr.startswith(f"slurm.sh: {project.parent} is not the project's folder. ")


def test_slurm_reads_its_settings_which_precede_all_commands():
    lines = (ROOT / "launch/slurm.sh").read_text().splitlines()
    head = lines[: next(i for i, line in enumerate(lines) if line and not line.startswith("#"))]
    settings = [line.removeprefix("#SBATCH ") for line in head if line.startswith("#SBATCH ")]
    assert {"--nodes=1", "--ntasks-per-node=1", "--requeue", "--open-mode=append", "--signal=B:USR1@60"} <= set(
        settings
    )
    assert sum(line.startswith("#SBATCH ") for line in lines) == len(settings)
