"""What of a run's resolved configuration must stay the same while the run is resumed, also by later versions."""

from __future__ import annotations

import difflib
import hashlib

# Bindings of what a run is computed on, and of where its data lie: both may be others when it is resumed. Whether the
# data are the same is told by data.json.
_FREE = ("Devices.", "Experiment.snapshot_seconds =", "folder.path =", "tfds.data_dir =", "tfds.shards_dir =")
# Settings that later versions have added, at the values that do what was done before: runs begun earlier lack them.
# Those of the first list are in no checksum, those of the second in that of each run which was begun with them.
_ADDED = (
    "Experiment.network = None",
    "ModelLevel.halve_if_diverged = False",
    "tfds.split_seed = 0",
    "tfds.test_share = 0.2",
)
_ADDED_SINCE = (
    "ExemplarLevel.keep_activations = None",
    "ExemplarMemory.code_initial_phase = True",
    "Matching.later_phases = 0",
    "Matching.spread_weight = 0.0",
    "ModelLevel.xla = False",
)


def as_begun(begun: str, now: str) -> str:
    """The present configuration of a run without such settings as its version did not know when it began.

    So a run keeps the checksum of its configuration, which its phases tell, whatever settings are added.

    Args:
      begun: the configuration in the run's folder.
      now: the same configuration, as `differences` says, with all settings of this version.
    """
    known = begun.splitlines()
    lines = now.splitlines(keepends=True)
    return "".join(line for line in lines if line.rstrip("\n") not in _ADDED_SINCE or line.rstrip("\n") in known)


def differences(begun: str, now: str) -> list[str]:
    """Lines in which two configurations differ and must not: those of the first after `-`, of the second after `+`."""
    before, after = map(_bound_lines, (begun, as_begun(begun, now)))
    changes = difflib.unified_diff(before, after, lineterm="", n=0)
    return [line for line in changes if line[0] in "+-" and not line.startswith(("---", "+++")) and line[1:].strip()]


def decides(name: str, value: str) -> bool:
    """Whether a setting decides what a run comes to, as it stands in a resolved configuration.

    What a run may be resumed with in another form does not, nor what later versions have added, at the value that does
    what was done before: a run without it has computed the same.
    """
    line = f"{name} = {value}"
    return not line.startswith(_FREE) and line not in (*_ADDED, *_ADDED_SINCE)


def checksum(config: str) -> str:
    """Checksum of what must stay the same in a resolved configuration while a run is resumed."""
    return hashlib.sha256("\n".join(_bound_lines(config)).encode()).hexdigest()


def _bound_lines(config: str) -> list[str]:
    """The lines of a configuration that must not change while a run is under way."""
    lines, is_free = [], False
    for line in config.splitlines():
        if line[:1] not in ("", " "):  # what is long goes on in lines that are indented
            is_free = line.startswith(_FREE)
        if not is_free and line not in _ADDED:
            lines.append(line)
    return lines
