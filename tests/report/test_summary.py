"""The table at the end of a run."""

from __future__ import annotations

import json

import pytest
from run_folders import results_of

from mnemonics_tf import results
from mnemonics_tf.report.summary import summary


@pytest.fixture
def lines_of(tmp_path):
    """The lines of the table of a results.json."""

    def lines(**options):
        path = tmp_path / "results.json"
        path.write_text(json.dumps(results_of(**options)))
        return summary(results.read(str(path))).splitlines()

    return lines


def test_table_has_a_line_a_phase_then_averages(lines_of):
    assert lines_of(average=61.234, last=50.5, forgetting=-3.5, nme_minus=2, phase_sizes=[5, 5]) == [
        "phase  classes  CNN (%)  NME (%)  seconds",
        "    0        5    50.50    48.50        2",
        "    1       10    50.50    48.50        2",
        "average           61.23*   59.23",
        "forgetting        -3.50*   -5.50",
        "* the classifier that is reported",
    ]


def test_star_stands_at_the_nearest_mean_where_that_is_reported(lines_of):
    lines = lines_of(average=60, nme_minus=2, primary_classifier="nme", phase_sizes=[5])
    assert lines[2] == "average           60.00    58.00*"


def test_run_without_exemplars_has_dashes_for_the_nearest_mean(lines_of):
    lines = lines_of(average=60, nme_minus=None, phase_sizes=[5])
    assert lines[1] == "    0        5    50.00        -        2"
    assert lines[2] == "average           60.00*       -"


def test_learned_exemplars_have_columns_and_notes_stand_below(tmp_path):
    content = results_of(average=60, phase_sizes=[5, 5])
    content["phases"][0]["movement"] = {"learned": {"mean": 1.234, "largest": 40.0, "unmoved": 7.5}}
    content["phases"][1]["notes"] = ["meta_loss became nan in stage learn_exemplars."]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(content))
    lines = summary(results.read(str(path))).splitlines()
    assert lines[:3] == [
        "phase  classes  CNN (%)  NME (%)  seconds  moved  still real (%)",
        "    0        5    50.00    48.00        2   1.23             7.5",
        "    1       10    50.00    48.00        2",
    ]
    assert lines[-1] == "phase 1: meta_loss became nan in stage learn_exemplars."
