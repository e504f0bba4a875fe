"""Stands in for `mnemonics_tf.main`: writes results.json phase by phase and does what bindings of `fake` ask for.

    fake.fail_at = i      says so on standard error and exits with 7 instead of phase i
    fake.busy = True      ends as `main` does if another process has the folder
    fake.quit_at = i      exits with 0 instead of phase i
    fake.hang_at = i      sleeps instead of phase i, unless phases were complete when it was started
    fake.deaf = True      ignores SIGTERM
    fake.meet = n         waits until n runs have been started
    fake.num_phases = n   has N = n, whatever Protocol.num_phases says

As `main` does, it refuses a folder that was made with other bindings or other lines of gin files.

Adds a line to `calls.txt` in the sweep's folder when it starts and when it ends.
"""

from __future__ import annotations

import json
import os
import pathlib
import signal
import sys
import time

MEETING_SECONDS = 60


def main() -> int:
    words = [word.removeprefix("--").partition("=") for word in sys.argv[1:]]
    bindings = dict(value.split(" = ") for flag, _, value in words if flag == "gin_param")
    (output_dir,) = (pathlib.Path(value) for flag, _, value in words if flag == "output_dir")
    calls = output_dir.parent / "calls.txt"

    def asked(name: str) -> int:
        return int(bindings.get(f"fake.{name}", -1))

    def tell(text: str) -> None:
        with open(calls, "a") as file:
            file.write(f"{text} {output_dir.name} {os.getpid()}\n")

    if "fake.deaf" in bindings:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    tell("start")
    print("on standard output")
    if "fake.busy" in bindings:
        print(f"mnemonics_tf: {output_dir}: locked.", file=sys.stderr)
        return 4
    deadline = time.monotonic() + MEETING_SECONDS
    while calls.read_text().count("start") < asked("meet"):
        if time.monotonic() > deadline:
            return 5
        time.sleep(0.01)
    if not settings_fit(output_dir, words):
        print(f"mnemonics_tf: {output_dir} was made with other settings.", file=sys.stderr)
        return 2
    num_complete = complete_phases(output_dir)
    num_phases = int(bindings.get("fake.num_phases", bindings["Protocol.num_phases"]))
    for phase in range(num_complete, num_phases + 1):
        if phase == asked("fail_at"):
            print("mnemonics_tf: the loss became nan. The settings were:\n  +this one", file=sys.stderr)
            return 7
        if phase == asked("quit_at"):
            return 0
        if phase == asked("hang_at") and num_complete == 0:
            time.sleep(600)
        write_results(output_dir, phase + 1, num_phases)
    tell("end")
    return 0


def settings_fit(output_dir: pathlib.Path, words: list[tuple[str, str, str]]) -> bool:
    """Whether the folder was made with these settings, or is new; then they are written down."""
    settings = [value for flag, _, value in words if flag == "gin_param"]
    for path in (value for flag, _, value in words if flag == "gin_file"):
        settings += [line for line in pathlib.Path(path).read_text().splitlines() if not line.startswith("#")]
    output_dir.mkdir(parents=True, exist_ok=True)
    kept = output_dir / "config.gin"
    if not kept.is_file():
        kept.write_text("\n".join(settings))
    return kept.read_text() == "\n".join(settings)


def complete_phases(output_dir: pathlib.Path) -> int:
    """How many phases an earlier process has completed."""
    path = output_dir / "results.json"
    return len(json.loads(path.read_text())["phases"]) if path.is_file() else 0


def write_results(output_dir: pathlib.Path, num_complete: int, num_phases: int) -> None:
    """A class a phase. Phase i takes 2 seconds and has an accuracy of 90 - i by the head, 50 by nearest means."""
    phases = [
        {
            "phase": i,
            "num_classes": i + 1,
            "accuracy": {"cnn": 90 - i, "nme": 50},
            "initial_classes_accuracy": {"cnn": 90 - i, "nme": 50},
            "group_accuracy": {"cnn": [90 - i] * (i + 1), "nme": [50] * (i + 1)},
            "exemplars_per_class": 20,
            "probe": {},
            "seconds": {"a": 1.5, "b": 0.5},
        }
        for i in range(num_complete)
    ]
    average = sum(phase["accuracy"]["cnn"] for phase in phases) / num_complete
    results = {
        "schema_version": 2,
        "package_version": "0",
        "dataset": "digits",
        "method": "lwf",
        "head": "cosine",
        "exemplars": "herding",
        "adjust_exemplars": False,
        "budget": "per_class_20",
        "discard": "random",
        "weight_transfer": "none",
        "balanced_finetune": None,
        "distillation": True,
        "seed": 0,
        "order_seed": 0,
        "num_phases": num_phases,
        "phase_sizes": [1] * (num_phases + 1),
        "class_order": list(range(num_phases + 1)),
        "primary_classifier": "cnn",
        "phases": phases,
        "average_accuracy": {"cnn": average, "nme": 50},
        "forgetting": {"cnn": num_complete - 1, "nme": 0},
    }
    output_dir.mkdir(parents=True, exist_ok=True)
    partial = output_dir / "results.json.partial"
    partial.write_text(json.dumps(results))
    os.replace(partial, output_dir / "results.json")


if __name__ == "__main__":
    sys.exit(main())
