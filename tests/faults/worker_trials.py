"""Two workers that share a run (`MultiWorkerMirroredStrategy`), of which one is killed at a random moment."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import time

from trials import Tally, content_of, is_whole

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_PATIENCE = 900  # seconds until a worker counts as hanging
# Two phases of a network of one block; steps that are kept as often as a run allows.
_BINDINGS = (
    "Protocol.num_phases = 1", "ResNet.blocks = (1,)", "ResNet.widths = (4,)", "ResNet.embedding_dim = 4",
    "ModelLevel.epochs = 8", "ModelLevel.milestones = (4,)", "ModelLevel.batch_size = 200",
    "ModelLevel.learning_rate = 0.02", 'ModelLevel.weight_transfer = "none"', "Experiment.method = @replay",
    'ExemplarMemory.strategy = "herding"', "ExemplarMemory.adjust = False", "ExemplarMemory.per_class = 4",
    "BalancedFinetune.enabled = False", "Probe.enabled = False", "Experiment.snapshot_seconds = 0.01",
)  # fmt: skip


class WorkerTrials:
    """The trials of a job of two workers.

    Args:
      folder: where trials have their folders.
      draw: decides which worker is killed, and when.
      seconds: after which no further trial is begun.
    """

    def __init__(self, folder: str, draw: random.Random, seconds: float = float("inf")):
        self._folder, self._draw = folder, draw
        self._end = time.monotonic() + seconds
        start = time.monotonic()
        codes, told = self._ended(self._started("undisturbed"))
        if codes != [0, 0]:
            raise RuntimeError(f"The undisturbed job has failed:\n{told}")
        self.seconds = time.monotonic() - start
        self._expected = content_of(os.path.join(folder, "undisturbed"))

    def lose_one(self, count: int) -> Tally:
        """Kills one of the workers at a random moment; the other must end by itself, and both go on."""
        tally = Tally("one of two workers is killed")
        for trial in range(count):
            if time.monotonic() > self._end:
                break
            moment, lost = self._draw.uniform(0, self.seconds), self._draw.randrange(2)
            what = f"worker {lost} after {moment:.0f} s of {self.seconds:.0f}"
            workers = self._started(f"run{trial}")
            with contextlib.suppress(subprocess.TimeoutExpired):
                workers[lost].wait(moment)
            workers[lost].send_signal(signal.SIGKILL)
            codes, told = self._ended(workers)
            if codes[1 - lost] not in (0, 1, 2) or "Traceback" in told:
                tally.add("the other worker hangs or crashes", f"{what}: {codes} {told[-800:]}")
                continue
            codes, told = self._ended(self._started(f"run{trial}"))
            place = os.path.join(self._folder, f"run{trial}")
            if codes != [0, 0]:
                tally.add("not gone on with", f"{what}: {codes} {told[-800:]}")
            elif content_of(place) != self._expected:
                tally.add("another result", what)
            else:
                tally.add("same result", "" if is_whole(place) else f"{what}: not whole")
        return tally

    def _started(self, name: str) -> list[subprocess.Popen]:
        """Two workers of the job in a folder."""
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
        for each in sockets:
            each.close()
        command = [sys.executable, "-m", "mnemonics_tf.main", "--gin_file=configs/lucir_digits.gin"]
        command += [f"--gin_param={binding}" for binding in _BINDINGS]
        command.append(f"--output_dir={os.path.join(self._folder, name)}")
        workers = []
        for index in range(2):
            task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            environment = {**os.environ, "TF_CONFIG": json.dumps(task), "grpc_proxy": "", "PYTHONPATH": str(_ROOT)}
            pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
            workers.append(subprocess.Popen(command, cwd=_ROOT, env=environment, **pipe))
        return workers

    def _ended(self, workers: list[subprocess.Popen]) -> tuple[list[int | None], str]:
        """Exit codes of both, None for one that hangs and is killed; and what they told."""
        codes: list[int | None] = []
        told = ""
        for worker in workers:
            try:
                told += worker.communicate(timeout=_PATIENCE)[0]
                codes.append(worker.returncode)
            except subprocess.TimeoutExpired:
                worker.kill()
                told += worker.communicate()[0]
                codes.append(None)
        return codes, told
