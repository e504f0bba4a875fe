"""Which workers train together, and whether they can reach one another.

TensorFlow waits for ever for a worker that does not come, and holds Python meanwhile. So workers meet here first.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping

from mnemonics_tf import checks
from mnemonics_tf.system import tracking
from mnemonics_tf.system.lazy import tf

_TRAINING_JOBS = ("chief", "master", "worker")
_PAUSE = 0.2  # seconds between two attempts to reach a worker
_NOTICE_AFTER = 5.0  # seconds of waiting in silence


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The workers of a run: processes, on one machine or several, that train together.

    Attributes:
      addresses: `host:port` of each worker, the chief first; all workers have the same order.
      index: position of this process in `addresses`.
      source: what named the workers, `TF_CONFIG` or `Slurm`; errors say it.
    """

    addresses: tuple[str, ...]
    index: int
    source: str


def from_tf_config(environment: Mapping[str, str]) -> Cluster | None:
    """The cluster that the environment variable TF_CONFIG describes; None if it is not set, or names no cluster.

    Only the jobs `chief` (or `master`, its older name) and `worker` take part, the chief first; parameter servers and
    evaluators have nothing to do here. A cluster of one is what services set for a job on a single machine.

    Args:
      environment: environment variables by name.

    Raises:
      UsageError: TF_CONFIG cannot be read, or names a task that is not in its cluster.
    """
    text = environment.get("TF_CONFIG", "")
    if not text.strip() or not text.strip().strip("{}").strip():
        return None
    try:
        content = json.loads(text)
        if not {"cluster", "task"} & content.keys():
            return None
        jobs, task = content["cluster"], content["task"]
        chiefs = [*jobs.get("chief", ()), *jobs.get("master", ())]
        addresses = [*chiefs, *jobs.get("worker", ())]
        index = int(task["index"]) + (len(chiefs) if task["type"] == "worker" else 0)
        known = task["type"] in _TRAINING_JOBS and 0 <= index < len(addresses)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise checks.UsageError(
            f"TF_CONFIG = {text!r} cannot be read ({type(error).__name__}: {error}): expected "
            '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}.'
        ) from None
    if not known or not all(isinstance(address, str) and ":" in address for address in addresses):
        raise checks.UsageError(
            f"TF_CONFIG: task {task!r} of cluster {jobs!r}: expected a chief or worker that the cluster lists, each as "
            "'host:port'."
        )
    return Cluster(tuple(addresses), index, "TF_CONFIG")


def is_slurm_step(environment: Mapping[str, str]) -> bool:
    """Whether this process is one of several tasks that `srun` has started."""
    count = environment.get("SLURM_STEP_NUM_TASKS", "1")
    return "SLURM_PROCID" in environment and count.isdigit() and int(count) > 1


def meet(cluster: Cluster, seconds: float) -> None:
    """Waits until every worker has reached every other one.

    Each listens at the address where TensorFlow's server will listen afterwards. After five seconds a notice says who
    is being waited for.

    Args:
      cluster: the workers, this one among them.
      seconds: how long to wait at most.

    Raises:
      UsageError: this worker cannot listen there, or some are not reached in time; the message names them.
    """
    others = [index for index in range(len(cluster.addresses)) if index != cluster.index]
    with _listening(cluster) as seen:
        reached: set[int] = set()
        start = time.monotonic()
        noticed = False
        while len(reached) < len(others) or len(seen) < len(others):
            reached |= {index for index in others if index not in reached and _greet(cluster, index)}
            waited = time.monotonic() - start
            missing = [index for index in others if index not in reached or index not in seen]
            if missing and waited > seconds:
                raise checks.UsageError(_unreachable(cluster, missing, reached, seconds))
            if missing and not noticed and waited > _NOTICE_AFTER:
                tracking.notice(f"Waiting for {_named(cluster, missing)} ...")
                noticed = True
            if missing:
                time.sleep(_PAUSE)


@contextlib.contextmanager
def _listening(cluster: Cluster) -> Iterator[set[int]]:
    """Listens at this worker's address; the set fills with the workers that have called."""
    seen: set[int] = set()
    host, _, port = cluster.addresses[cluster.index].rpartition(":")
    try:
        # Any interface: a name may resolve otherwise here than on other machines.
        family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
        server = socket.create_server(("", int(port)), family=family, backlog=len(cluster.addresses) * 4)
    except (OSError, ValueError, OverflowError) as error:
        raise checks.UsageError(
            f"{cluster.source}: worker {cluster.index} cannot listen at {cluster.addresses[cluster.index]} ({error}). "
            "End what uses that port, or name another."
        ) from error

    def answer() -> None:
        while True:
            try:
                caller, _ = server.accept()
            except OSError:  # closed: all have met
                return
            with caller:
                caller.settimeout(2.0)
                with contextlib.suppress(OSError, ValueError):
                    seen.add(int(caller.recv(16)))
                    caller.sendall(b"ok")

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        # Closing alone would leave the thread in `accept`, and the port taken.
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


def _greet(cluster: Cluster, index: int) -> bool:
    """Tells worker `index` which worker this is. Returns whether it has answered."""
    host, _, port = cluster.addresses[index].rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=2.0) as connection:
            connection.sendall(str(cluster.index).encode())
            return connection.recv(2) == b"ok"
    except (OSError, ValueError, OverflowError):
        return False


def _named(cluster: Cluster, indices: list[int]) -> str:
    return ", ".join(f"worker {index} ({cluster.addresses[index]})" for index in indices)


def _unreachable(cluster: Cluster, missing: list[int], reached: set[int], seconds: float) -> str:
    silent = [index for index in missing if index not in reached]
    if silent:
        problem = f"{_named(cluster, silent)} cannot be reached from worker {cluster.index}"
    else:
        problem = f"{_named(cluster, missing)} cannot reach worker {cluster.index}"
    return (
        f"{cluster.source} lists {len(cluster.addresses)} workers, but {problem} within {seconds:g} seconds. Start all "
        "of them with the same command, check that names and ports are right and open, or raise "
        "Devices.wait_for_workers."
    )


def own_cluster(slurm_port: int) -> Cluster | None:
    """The cluster that this process belongs to, by TF_CONFIG or else by Slurm; None if it works alone.

    Args:
      slurm_port: the port at which the first task of each machine listens; further tasks take the ports after it.

    Raises:
      UsageError: TF_CONFIG or Slurm's variables cannot be understood.
    """
    cluster = from_tf_config(os.environ)
    if cluster is not None or not is_slurm_step(os.environ):
        return cluster if cluster is not None and len(cluster.addresses) > 1 else None
    try:
        tasks = int(os.environ["SLURM_STEP_NUM_TASKS"])
        # Which GPUs a task sees is Slurm's business; the resolver wants to deal some out all the same.
        resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(
            port_base=slurm_port, gpus_per_node=tasks, gpus_per_task=1, auto_set_gpu=False
        )
        addresses = resolver.cluster_spec().as_dict()["worker"]
        # The resolver sorts machines by name, which need not be the order of Slurm's ranks.
        own = f"{os.environ['SLURMD_NODENAME']}:{slurm_port + int(os.environ['SLURM_LOCALID'])}"
        return Cluster(tuple(addresses), addresses.index(own), "Slurm")
    except (RuntimeError, ValueError, KeyError) as error:
        raise checks.UsageError(
            f"Slurm's variables cannot be understood ({error}). Start the tasks by srun, or set "
            "Devices.strategy = 'mirrored' for tasks that work apart."
        ) from error
