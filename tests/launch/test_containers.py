"""What runs several workers in containers: their own scripts with stand-ins, and what must agree between files."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import fake_project
import pytest
from conftest import ROOT
from fake_project import FILES, environment, told, write_program


@pytest.fixture
def project(tmp_path) -> Path:
    """A project of stand-ins."""
    return fake_project.make(tmp_path)


def _kubernetes() -> str:
    return (ROOT / "launch/kubernetes.yaml").read_text()


def _container_script() -> str:
    """The block of text that the container's shell runs."""
    (block,) = re.findall(r"^ *- \|\n((?: {14}.*\n)+)", _kubernetes(), flags=re.MULTILINE)
    return textwrap.dedent(block)


def test_pods_share_a_cluster_and_have_places_of_their_own(project):
    script = _container_script()
    # Kubernetes would replace these before the shell sees them.
    assert "$(" not in script
    assert "$$" not in script
    write_program(project, "python", f'exec "{sys.executable}" "$@"')
    flags = ["--gin_param=a.b = 1", "--output_dir=x y"]
    for index in range(3):
        variables = environment(project, WORKERS="3", JOB_COMPLETION_INDEX=str(index))
        done = subprocess.run(
            ["bash", "-euc", script, "worker", *flags], cwd=project, env=variables, capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, "")
    addresses = [f"mnemonics-{index}.mnemonics:8888" for index in range(3)]
    assert [worker["config"] for worker in told(project)] == [
        {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}} for index in range(3)
    ]
    assert all(worker["arguments"] == flags for worker in told(project))


def _values(key: str) -> list[str]:
    return re.findall(rf"^[ -]*{key}: *([^#\n]*?) *(?:#.*)?$", _kubernetes(), flags=re.MULTILINE)


def test_names_and_numbers_of_the_kubernetes_objects_agree():
    documents = _kubernetes().split("\n---\n")
    kinds = [re.search(r"^kind: (\w+)$", document, flags=re.MULTILINE).group(1) for document in documents]
    assert kinds == ["PersistentVolumeClaim", "Service", "Job"]
    names = [re.search(r"^metadata:\n  name: (\w+)", document, flags=re.MULTILINE).group(1) for document in documents]
    claim, service, job = names
    assert _values("claimName") == [claim]
    assert _values("subdomain") == [service]
    assert f"{job}-$i.{service}:" in _container_script()
    assert _values("app") == ["mnemonics", "mnemonics"]  # what the service selects, what pods are labelled
    (workers,) = re.findall(r'name: WORKERS\n +value: "(\d+)"', _kubernetes())
    assert _values("completions") == _values("parallelism") == [workers]
    assert _values("containerPort") == re.findall(r":(\d+)\\\"\"", _container_script())
    assert "\t" not in _kubernetes()


def test_pods_are_replaced_but_for_mistakes_in_the_configuration():
    # Kubernetes takes a podFailurePolicy, and a limit for each index, only where containers are not restarted.
    assert _values("completionMode") == ["Indexed"]
    assert _values("restartPolicy") == ["Never"]
    assert _values("action") == ["Ignore", "FailJob"]
    assert _values("values") == ["[2]"]
    assert _values("operator") == ["In"]


def _pip_steps(text: str) -> list[list[str]]:
    """What follows `-m pip install` in each line, without options that only change what is shown or kept."""
    lines = re.findall(r"^[^#\n]*-m pip install (.*?)(?: \|\| return)?$", text, flags=re.MULTILINE)
    left_out = {"--quiet", "--disable-pip-version-check", "--no-cache-dir"}
    return [[word for word in line.split() if word not in left_out] for line in lines]


def test_image_is_made_by_the_steps_of_the_environment():
    image = _pip_steps((ROOT / "launch/Dockerfile").read_text())
    environment = _pip_steps((ROOT / "launch/environment.sh").read_text())
    assert image == [["-r", "requirements.txt", '"${TENSORFLOW}"'], ["--no-deps", "--editable", "."]]
    # Its array holds requirements.txt, and what else a script asks for.
    assert environment == [['"${requirements[@]}"'], image[1]]
    # The extra of TensorFlow keeps the version that requirements.txt pins.
    assert re.search(r"^tensorflow==", (ROOT / "requirements.txt").read_text(), flags=re.MULTILINE)


def test_image_gets_files_that_exist_and_that_reach_the_builder():
    text = (ROOT / "launch/Dockerfile").read_text()
    copied = [name for line in re.findall(r"^COPY (.*) \S+$", text, flags=re.MULTILINE) for name in line.split()]
    assert {"requirements.txt", "setup.py", "README.md", "mnemonics_tf", "configs"} <= set(copied)
    assert all((ROOT / name).exists() for name in copied)
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    assert sorted(line[1:] for line in ignored if line.startswith("!")) == sorted(copied)


def test_user_of_the_image_is_the_user_of_the_pods():
    (user,) = re.findall(r"^USER (\d+)$", (ROOT / "launch/Dockerfile").read_text(), flags=re.MULTILINE)
    assert _values("runAsUser") == _values("runAsGroup") == _values("fsGroup") == [user]


def _mentioned(pattern: str) -> set[str]:
    return {word for name in FILES for word in re.findall(pattern, (ROOT / "launch" / name).read_text())}


def test_files_and_settings_that_are_mentioned_exist():
    paths = _mentioned(r"\b(?:configs|launch)/[\w/]+(?:\.\w+)?")
    assert {"configs/lucir_digits.gin", "launch/environment.sh", "launch/Dockerfile"} <= paths
    assert all((ROOT / path).exists() for path in paths)
    flags = _mentioned(r"--((?:gin|output|initial)_\w+)")
    source = (ROOT / "mnemonics_tf/main.py").read_text()
    assert flags >= {"gin_file", "gin_param", "output_dir"}
    assert all(f'"{flag}"' in source for flag in flags)
    settings = _mentioned(r"Devices\.(\w+)")
    assert settings == {"slurm_port", "wait_for_workers"}
    devices = (ROOT / "mnemonics_tf/system/devices.py").read_text()
    assert all(re.search(rf"^    {name}: ", devices, flags=re.MULTILINE) for name in settings)
