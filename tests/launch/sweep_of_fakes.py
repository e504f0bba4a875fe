"""`launch/sweep.py` as it is, but for what it starts: `fake_main.py`."""

from __future__ import annotations

import functools
import pathlib
import sys

FOLDER = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parents[1] / "launch"))

import sweep  # noqa: E402
from absl import app  # noqa: E402
from sweeping import process  # noqa: E402

from mnemonics_tf.system import screen  # noqa: E402

process.GRACE_SECONDS = 1.0
app.run(
    functools.partial(sweep.main, command=(sys.executable, str(FOLDER / "fake_main.py"))),
    flags_parser=functools.partial(screen.parse_flags, "sweep"),
)
