"""Runs that were begun by earlier versions, whose configurations lack what was added since."""

from __future__ import annotations

from pathlib import Path

import pytest

from mnemonics_tf import config
from mnemonics_tf.checks import UsageError
from mnemonics_tf.run import bindings
from mnemonics_tf.run.directory import RunDirectory
from mnemonics_tf.system import gin_files

# What a run of the digits wrote on 2026-11-26, before `ModelLevel.halve_if_diverged` and the settings after it.
_BEGUN = Path(__file__).parent / "begun_earlier.gin"


@pytest.fixture(scope="module")
def now() -> str:
    """The same configuration, with all settings that there are by now."""
    config.parse([str(_BEGUN)], [])
    text = config.resolved().text()
    gin_files.forget()
    return text


def test_run_that_was_begun_earlier_goes_on_and_its_phases_stay_its_own(tmp_path, now):
    # A setting that is added goes into `bindings._ADDED_SINCE`, or runs that were begun without it cannot go on.
    assert bindings.differences(_BEGUN.read_text(), now) == []
    run = RunDirectory(str(tmp_path))
    run.open(_BEGUN.read_text())
    with run.writing_phase(0) as folder:
        (Path(folder) / "metrics.json").write_text("{}")
    del run
    for _ in range(2):  # the second time with what the first has left
        again = RunDirectory(str(tmp_path))
        again.open(now)
        assert again.verified(0).phase == 0
        del again


def test_run_keeps_the_checksum_that_it_began_with(now):
    later = now.replace("Matching.spread_weight = 0.0", "Matching.spread_weight = 0.5")
    assert bindings.as_begun(now, now) == now
    assert bindings.checksum(now) != bindings.checksum(bindings.as_begun(_BEGUN.read_text(), now))
    assert bindings.differences(now, later) == ["-Matching.spread_weight = 0.0", "+Matching.spread_weight = 0.5"]
    assert bindings.differences(_BEGUN.read_text(), later) == ["+Matching.spread_weight = 0.5"]


def test_other_value_of_an_added_setting_is_refused(tmp_path, now):
    RunDirectory(str(tmp_path)).open(_BEGUN.read_text())
    with pytest.raises(UsageError, match=r"\n  \+ExemplarLevel\.keep_activations = 3$"):
        RunDirectory(str(tmp_path)).open(now.replace("keep_activations = None", "keep_activations = 3"))
