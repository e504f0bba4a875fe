"""A project of stand-ins: the launch scripts as they are, and in the place of `mnemonics_tf.main` what is below.

It writes its TF_CONFIG and the like to `told<worker>.json` in the project's folder. Then it does what the variable
DEEDS (JSON) has for its worker, and else ends with 0:

    a number    ends with that exit code
    "killed"    dies by SIGKILL
    "bereft"    ends with 1 once worker 1 is gone
    "wait"      makes the file `waits<worker>` and waits
    "deaf"      the same, and ignores SIGTERM
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILES = ("local_cluster.sh", "slurm.sh", "kubernetes.yaml", "Dockerfile")
VARIABLES = ("CUDA_VISIBLE_DEVICES", "TF_NUM_INTRAOP_THREADS", "grpc_proxy")

# In the place of launch/environment.sh, which would install TensorFlow, and what its arguments name.
_ENVIRONMENT = """
if [ $# -gt 0 ]; then echo "environment.sh: no such requirements: $*" >&2; exit 99; fi
cd "$(dirname "${{BASH_SOURCE[0]}}")/.."
PYTHON={python}
"""


def make(parent: Path) -> Path:
    """Makes the project in a folder with a name that shells would split."""
    project = parent / "the project's copy"
    for folder in ("launch", "mnemonics_tf", "programs", "tmp"):
        (project / folder).mkdir(parents=True)
    for name in FILES:
        shutil.copy(ROOT / "launch" / name, project / "launch")
    (project / "launch/environment.sh").write_text(_ENVIRONMENT.format(python=shlex.quote(sys.executable)))
    (project / "mnemonics_tf/__init__.py").touch()
    shutil.copy(__file__, project / "mnemonics_tf/main.py")
    return project


def environment(project: Path, **variables: str) -> dict[str, str]:
    """This process's, with the project's programs first; no GPUs, no cluster, unless `variables` have them."""
    foreign = ("SLURM", "TF_", "CUDA", "PYTHON")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    path = f"{project / 'programs'}:{os.environ['PATH']}"
    return {**kept, "PATH": path, "TMPDIR": str(project / "tmp"), "CUDA_VISIBLE_DEVICES": "", **variables}


def write_program(project: Path, name: str, text: str) -> None:
    """A program that is found by its name, in Bash."""
    path = project / "programs" / name
    path.write_text(f"#!/usr/bin/env bash\n{text}\n")
    path.chmod(0o755)


def told(project: Path) -> list[dict]:
    """What each worker wrote."""
    return [json.loads(path.read_text()) for path in sorted(project.glob("told*.json"))]


def main() -> int:
    config = json.loads(os.environ["TF_CONFIG"])
    index = config["task"]["index"]
    facts = {"config": config, "arguments": sys.argv[1:], "pid": os.getpid(), "cwd": os.getcwd()}
    partial = Path(f"told{index}.partial")
    partial.write_text(json.dumps(facts | {name: os.environ.get(name) for name in VARIABLES}))
    partial.rename(f"told{index}.json")
    print(f"screen of {index}", flush=True)
    deed = json.loads(os.environ.get("DEEDS", "{}")).get(str(index), 0)
    if isinstance(deed, int):
        return deed
    if deed == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if deed == "bereft":
        return _outlive_worker_1()
    if deed == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(f"waits{index}").touch()
    time.sleep(600)
    return 0


def _outlive_worker_1() -> int:
    while True:
        try:
            os.kill(json.loads(Path("told1.json").read_text())["pid"], 0)
        except FileNotFoundError:
            time.sleep(0.01)
        except ProcessLookupError:
            return 1


if __name__ == "__main__":
    sys.exit(main())
