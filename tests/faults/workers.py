"""A child process that runs a job again and again, and what its folder holds at chosen moments.

To import and compile takes longer than a run of the whole job, so one process makes many runs. A process that SIGKILL
ends leaves what its folder holds at that moment: nobody tidies up, and what was written is seen by the next process. So
the worker is stopped (SIGSTOP, all its threads), its folder is copied, and it goes on: one run leaves many states. In
the same way the image of a file system is copied, which is what a power cut leaves.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import resource
import select
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

import children
from children import NO_FAULT, Fault, Outcome

_POLL = 0.01  # seconds


@dataclasses.dataclass(frozen=True)
class Stops:
    """When a worker is stopped for a moment, and what is done meanwhile.

    Attributes:
      then: what is done each time, such as copying its folder.
      seconds: processor time since the run began; rising.
      calls: numbers of calls that change the file system, and whether the stop comes after the call.
    """

    then: Callable[[], object]
    seconds: Sequence[float] = ()
    calls: Sequence[tuple[int, bool]] = ()


NO_STOPS = Stops(lambda: None)


class Worker:
    """Runs a job in one child process, which is started when it is first needed, and again if it has ended.

    Args:
      job: is given a folder. It must be able to be run several times in a process.
      patience: seconds without an end after which a run counts as hanging.
    """

    def __init__(self, job: Callable[[str], None], patience: float = 900.0):
        self._job, self._patience = job, patience
        self._screen = tempfile.TemporaryFile()  # noqa: SIM115  as long as this object is
        self._child = 0

    def run(self, place: str, fault: Fault = NO_FAULT, stops: Stops = NO_STOPS) -> Outcome:
        """Runs the job in a folder; `fault.seconds` are of processor time here."""
        if not self._child:
            self._start()
        start, self._busy_at = time.monotonic(), self._busy()
        os.truncate(self._screen.fileno(), 0)
        calls = [list(each) for each in stops.calls]
        os.write(self._ask, json.dumps([place, dataclasses.asdict(fault), calls]).encode() + b"\n")
        answer, status = self._wait(start, fault, stops)
        text = self._told()
        if answer is None:
            self._forget()
            is_meant = status is not None and os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
            return Outcome("killed" if is_meant and fault != NO_FAULT else "crashed", text, 0, 0.0)
        kind = "traceback" if "Traceback (most" in text else "finished" if answer["code"] == 0 else "told"
        return Outcome(kind, text, answer["calls"], answer["seconds"])

    def close(self) -> None:
        """Ends the process, if there is one."""
        if self._child:
            os.kill(self._child, signal.SIGKILL)
            os.waitpid(self._child, 0)
            self._forget()

    def _wait(self, start: float, fault: Fault, stops: Stops) -> tuple[dict | None, int | None]:
        """The worker's answer, None if it has ended; and then its status, None if it was hanging."""
        moments = list(stops.seconds)
        while True:
            if select.select([self._answers], [], [], _POLL)[0]:
                line = os.read(self._answers, 65536)
                if line:
                    return json.loads(line), None
            ended, status = os.waitpid(self._child, os.WNOHANG | os.WUNTRACED)
            if ended and os.WIFSTOPPED(status):
                stops.then()
                os.kill(self._child, signal.SIGCONT)
                continue
            if ended:
                return None, status
            busy = self._busy() - self._busy_at
            if time.monotonic() - start > self._patience:
                os.kill(self._child, signal.SIGKILL)
                os.waitpid(self._child, 0)
                return None, None
            if fault.seconds is not None and busy >= fault.seconds:
                os.kill(self._child, signal.SIGKILL)
            elif moments and busy >= moments[0]:
                moments.pop(0)
                os.kill(self._child, signal.SIGSTOP)

    def _busy(self) -> float:
        """Processor time of the child, in seconds."""
        with open(f"/proc/{self._child}/stat", encoding="ascii") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _told(self) -> str:
        self._screen.seek(0)
        return self._screen.read().decode(errors="replace")

    def _start(self) -> None:
        asked, self._ask = os.pipe()
        self._answers, answers = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            try:
                os.close(self._ask)
                os.dup2(self._screen.fileno(), 1)
                os.dup2(self._screen.fileno(), 2)
                _work(self._job, asked, answers)
            finally:
                os._exit(1)
        os.close(asked)
        os.close(answers)

    def _forget(self) -> None:
        os.close(self._ask)
        os.close(self._answers)
        self._child = 0


def _work(job: Callable[[str], None], asked: int, answers: int) -> None:
    """The life of a worker: it ends when nobody can ask it any more."""
    counting = children.Counting()
    counting.install()
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    gc.freeze()  # what was imported is not looked through after each run
    with os.fdopen(asked) as lines:
        for line in lines:
            place, described, stops = json.loads(line)
            fault = Fault(**described)
            os.lseek(1, 0, os.SEEK_SET)
            start = time.process_time()
            counting.begin(fault, {(number, after) for number, after in stops})
            if fault.file_size is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (fault.file_size, unlimited[1]))
            code = children.called(lambda place=place: job(place))
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
            calls = counting.end()
            gc.collect()  # what still refers to files of the run
            sys.stdout.flush()
            sys.stderr.flush()
            told = {"code": code, "calls": calls, "seconds": time.process_time() - start}
            os.write(answers, json.dumps(told).encode())
