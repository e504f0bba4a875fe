"""Who trains together, and whether workers reach one another."""

from __future__ import annotations

import json
import socket
import threading
import time

import pytest

from mnemonics_tf.checks import UsageError
from mnemonics_tf.system import cluster
from mnemonics_tf.system.cluster import Cluster


def _free_addresses(count: int) -> tuple[str, ...]:
    """Addresses on this machine at which nothing listens now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = tuple(f"127.0.0.1:{each.getsockname()[1]}" for each in sockets)
    for each in sockets:
        each.close()
    return addresses


def _config(jobs: dict, task_type: str, index: int) -> dict[str, str]:
    return {"TF_CONFIG": json.dumps({"cluster": jobs, "task": {"type": task_type, "index": index}})}


def test_tf_config_names_the_workers_and_this_one():
    jobs = {"worker": ["a:1", "b:2", "c:3"]}
    assert cluster.from_tf_config(_config(jobs, "worker", 1)) == Cluster(("a:1", "b:2", "c:3"), 1, "TF_CONFIG")


@pytest.mark.parametrize(("task_type", "index", "expected"), [("chief", 0, 0), ("worker", 0, 1), ("worker", 1, 2)])
def test_chief_of_tf_config_comes_first(task_type, index, expected):
    found = cluster.from_tf_config(_config({"worker": ["b:2", "c:3"], "chief": ["a:1"]}, task_type, index))
    assert found == Cluster(("a:1", "b:2", "c:3"), expected, "TF_CONFIG")


@pytest.mark.parametrize(
    ("jobs", "task_type"),
    [
        ({"chief": ["a:1"]}, "chief"),
        ({"master": ["a:1"]}, "master"),
        ({"worker": ["a:1"]}, "worker"),
        ({"chief": ["a:1"], "worker": []}, "chief"),
        ({"chief": ["a:1"], "evaluator": ["b:2"], "ps": ["c:3", "d:4"]}, "chief"),
        ({"worker": ["a:1"], "ps": ["c:3"]}, "worker"),
    ],
)
def test_single_machine_of_a_service_works_alone(monkeypatch, jobs, task_type):
    environment = {
        "TF_CONFIG": json.dumps({"cluster": jobs, "environment": "cloud", "task": {"type": task_type, "index": 0}})
    }
    assert cluster.from_tf_config(environment).addresses == ("a:1",)
    monkeypatch.setenv("TF_CONFIG", environment["TF_CONFIG"])
    assert cluster.own_cluster(8888) is None


@pytest.mark.parametrize("text", [None, "", " ", "{}", "{ }", '{"environment": "cloud"}'])
def test_process_without_tf_config_works_alone(text):
    assert cluster.from_tf_config({} if text is None else {"TF_CONFIG": text}) is None


@pytest.mark.parametrize(
    "text",
    [
        "worker 1",
        "[1]",
        '{"cluster": {}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a:1"]}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": "first"}}',
        '{"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 2}}',
        '{"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": -1}}',
        '{"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "ps", "index": 0}}',
        '{"cluster": {"worker": ["a", "b:2"]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": [1, 2]}, "task": {"type": "worker", "index": 0}}',
    ],
)
def test_tf_config_that_cannot_be_used_is_refused(text):
    with pytest.raises(UsageError, match=r"TF_CONFIG.*expected"):
        cluster.from_tf_config({"TF_CONFIG": text})


def _slurm(rank: int, node: str, local: int) -> dict[str, str]:
    """What srun sets for a task of a step on node2 (two tasks) and node10 (one): ranks follow Slurm's list."""
    return {
        "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str(local),
        "SLURMD_NODENAME": node,
        "SLURM_STEP_NUM_TASKS": "3",
        "SLURM_STEP_NODELIST": "node[2,10]",
        "SLURM_STEP_TASKS_PER_NODE": "2,1",
    }


@pytest.mark.parametrize(("rank", "node", "local"), [(0, "node2", 0), (1, "node2", 1), (2, "node10", 0)])
def test_slurm_task_finds_its_own_place(monkeypatch, rank, node, local):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    for name, value in _slurm(rank, node, local).items():
        monkeypatch.setenv(name, value)
    found = cluster.own_cluster(slurm_port=9000)
    assert sorted(found.addresses) == ["node10:9000", "node2:9000", "node2:9001"]
    assert found.addresses[found.index] == f"{node}:{9000 + local}"


def test_single_slurm_task_works_alone(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    assert cluster.own_cluster(slurm_port=9000) is None


def test_slurm_step_that_does_not_say_enough_is_refused(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    for name, value in _slurm(0, "node2", 0).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SLURM_STEP_NODELIST")
    with pytest.raises(UsageError, match=r"Slurm's variables cannot be understood"):
        cluster.own_cluster(slurm_port=9000)


def test_tf_config_of_a_single_worker_needs_no_others(monkeypatch):
    for name, value in _config({"worker": ["a:1"]}, "worker", 0).items():
        monkeypatch.setenv(name, value)
    assert cluster.own_cluster(slurm_port=9000) is None


def test_workers_meet_whenever_they_come_and_leave_their_ports_free():
    addresses = _free_addresses(3)
    errors: list[Exception] = []

    def come(index: int) -> None:
        time.sleep(0.3 * index)
        try:
            cluster.meet(Cluster(addresses, index, "TF_CONFIG"), 30)
        except Exception as error:  # a thread's exception would be lost
            errors.append(error)

    threads = [threading.Thread(target=come, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(40)
    assert not errors
    for address in addresses:
        socket.create_server(("127.0.0.1", int(address.rpartition(":")[2]))).close()


def test_worker_that_does_not_come_is_named():
    addresses = _free_addresses(3)

    def come() -> None:
        with pytest.raises(UsageError, match="worker 2"):
            cluster.meet(Cluster(addresses, 1, "TF_CONFIG"), 1.5)

    second = threading.Thread(target=come)
    second.start()
    with pytest.raises(UsageError) as raised:
        cluster.meet(Cluster(addresses, 0, "TF_CONFIG"), 1.0)
    second.join()
    text = str(raised.value)
    assert f"worker 2 ({addresses[2]}) cannot be reached from worker 0 within 1 seconds" in text
    assert addresses[1] not in text
    assert "Devices.wait_for_workers" in text


def test_port_that_is_taken_is_named():
    with socket.create_server(("", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UsageError, match=rf"worker 0 cannot listen at {address} .* End what uses that port"):
            cluster.meet(Cluster((address, *_free_addresses(1)), 0, "TF_CONFIG"), 1.0)


def test_stranger_who_calls_is_no_worker():
    """A port scanner, or a web browser: what it says is no number of a worker."""
    addresses = _free_addresses(2)
    host, _, port = addresses[0].rpartition(":")

    def call() -> None:
        for _ in range(50):
            try:
                with socket.create_connection((host, int(port)), timeout=1) as connection:
                    connection.sendall(b"GET / HTTP/1.1\r\n")
                return
            except OSError:
                time.sleep(0.02)

    stranger = threading.Thread(target=call)
    stranger.start()
    with pytest.raises(UsageError, match=r"worker 1 .* cannot be reached"):
        cluster.meet(Cluster(addresses, 0, "TF_CONFIG"), 0.8)
    stranger.join()
