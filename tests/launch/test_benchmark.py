"""The benchmark's command line, its ratios, its tables, and files that keep the groups that were not measured anew."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "launch/benchmarks"))

import run
from groups import GROUPS, classes, exemplar_level, numbers, tracing
from harness import limit, record, report
from harness.cases import PYTORCH, TENSORFLOW, Case, Group, Heat
from harness.measured import Measured, Ratio, Results, predicted_memory, time_ratio
from harness.tables import table, text, work_table


def measured(name, seconds, framework=TENSORFLOW, heat="heat", inner_steps=None, **more):
    """A case that has taken so many seconds in its turns."""
    case = {key: more.pop(key) for key in ("work", "images", "operations", "passes", "grows") if key in more}
    return Measured(
        Case(framework, name, **{"work": "module.work", **case}),
        Heat(heat, len(seconds), (), inner_steps),
        first_seconds=2 * seconds[0] if seconds else None,
        seconds=list(seconds),
        **{"peak_memory": 10**9, **more},
    )


def a_record(*cases, made="one day", **facts):
    return record.Record({"made": made, "took": "1.0 minutes", "CPU": "a processor", **facts}, False, list(cases))


def a_group(name, title):
    return Group(name, title, f"What {name} is.", lambda quick: [], work_table, lambda results: [])


def test_ratios_are_medians_of_rounds_and_of_medians_where_cases_took_no_turns():
    ours, theirs = measured("ours", (1.0, 2.0, 3.0)), measured("theirs", (2.0, 2.0, 12.0), PYTORCH)
    assert time_ratio(ours, theirs) == Ratio(0.5, 0.25, 1.0)  # 1/2, 2/2, 3/12
    elsewhere = measured("theirs", (4.0, 8.0, 6.0), PYTORCH, heat="another")
    assert time_ratio(ours, elsewhere) == Ratio(2 / 6, 2 / 6, 2 / 6)
    assert time_ratio(ours, None) is None
    assert time_ratio(ours, measured("broken", ())) is None


def test_the_fastest_form_of_pytorch_is_the_one_that_others_are_compared_with():
    results = Results(
        [
            measured("ours", (3.0, 3.0), images=6),
            measured("PyTorch, NCHW", (4.0, 4.0), PYTORCH, images=6),
            measured("PyTorch, channels_last", (2.0, 2.0), PYTORCH, images=6),
            measured("PyTorch, torch.compile", (), PYTORCH, reason="not run: no compiler"),
        ]
    )
    assert results.fastest("heat").case.name == "PyTorch, channels_last"
    columns, rows = work_table(results)
    told = [dict(zip(columns, row, strict=True)) for row in rows]
    assert [row["case"] for row in told] == [
        "ours", "PyTorch, NCHW", "**PyTorch, channels_last**", "PyTorch, torch.compile",
    ]  # fmt: skip
    assert told[0]["time / best of PyTorch"] == "1.50"
    assert told[0]["images a second"] == "2.00"
    assert told[3]["seconds"] == "not run: no compiler"


def test_share_of_the_arithmetic_limit():
    # The faster of the two multiplies at 200 operations a second, so that 50 operations need 0.25 s of the 1 s taken.
    products = [
        measured(
            f"matrix multiply, {framework}", (seconds,), framework, "limit", work="matrix.multiply", operations=100.0
        )
        for framework, seconds in ((TENSORFLOW, 1.0), (PYTORCH, 0.5))
    ]
    step = measured("step", (1.0,), operations=50.0)
    rate = limit.rate_of(Results([step, *products]))
    assert rate == 200.0
    assert limit.share_of_limit(step, rate) == 0.25
    assert limit.share_of_limit(measured("uncounted", (1.0,)), rate) is None
    # Three passes for a student, one for a teacher, two operations for a product and its sum.
    assert limit.network_operations(7, images=10, forward=2, backward=2) == 2 * 7 * 10 * 4


def test_floor_of_a_meta_step_is_its_passes_times_a_plain_gradient():
    gradients = [
        measured(exemplar_level.gradient_name(TENSORFLOW, count), (seconds,), heat="meta", inner_steps=16)
        for count, seconds in ((64, 0.1), (128, 0.2))
    ]
    adjoint = measured("adjoint", (13.2,), heat="meta", inner_steps=16, passes=64)
    ratio = exemplar_level.over_floor(Results([adjoint, *gradients]), adjoint)
    assert ratio.value == pytest.approx(13.2 / (64 * 0.1 + 0.2))


def test_memory_that_a_case_would_take_is_on_the_line_through_smaller_ones():
    heat = Heat("T = 16", 1, (), 16)
    known = [
        measured("unrolled", (1.0,), inner_steps=steps, grows=True, peak_memory=memory)
        for steps, memory in ((1, 2.0e9), (4, 3.5e9))
    ]
    case = Case(TENSORFLOW, "unrolled", "module.work", grows=True)
    assert predicted_memory(case, heat, known) == pytest.approx(2.0e9 + 15 * 0.5e9)
    assert predicted_memory(case, heat, known[:1]) is None


def test_growth_of_phases_is_told_over_that_of_their_data():
    cases = [
        measured(str(old), (seconds,), images=images) for old, seconds, images in ((50, 2, 2000), (1000, 15, 20000))
    ]
    (line,) = classes.watched(Results(cases))
    assert line.ratio.value == pytest.approx((15 / 2) / (20000 / 2000))


def test_share_of_tracing_over_phases():
    # An epoch of 100 images takes 1 s; of 10 s, 7 are fixed beyond three epochs, 2 of them tracing. Short schedule: 8
    # epochs over 2 x 500 new images and 20 of each of 50 old classes, at 0.01 s an image.
    phase = {"classes": 52, "seconds": 10.0, "traced": 2.0, "images": 100, "seconds_of_an_epoch": 1.0}
    phase["resident"] = 10**9
    results = Results([measured("phases", (), answers=[{"phases": [phase, {**phase, "resident": 10**9 + 5_000_000}]}])])
    traced, fixed, memory = tracing.watched(results)
    assert traced.ratio.value == pytest.approx(2 / (7 + 8 * 2000 * 0.01))
    assert fixed.ratio.value == pytest.approx(7 / (7 + 8 * 2000 * 0.01))
    assert (memory.ratio.value, memory.unit) == (0.0, " MB")  # of the later half, which is one phase here
    assert len(tracing.table(results)[1]) == 2


def test_frameworks_that_differ_fail():
    told = {"loss, frozen statistics, float64": 1e-15, "gradient, frozen statistics, float64": float("nan")}
    found = numbers.failures(Results([measured("PyTorch", (), PYTORCH, answers=[{"differences": told}])]))
    assert len(found) == 1
    assert "gradient, frozen statistics, float64" in found[0]


def test_numbers_are_told_with_their_spread():
    assert text(Ratio(0.5, 0.25, 0.75)) == "0.50 (0.25 to 0.75)"
    assert text(Ratio(1234.4, 1234.4, 1234.4)) == "1,234"
    assert text(None) == ""
    assert table(("a", "b"), [("long", "c")]) == "| a    | b |\n| ---- | - |\n| long | c |"


def test_record_comes_back_as_it_was(tmp_path):
    case = measured("ours", (1.0, 2.0), heat="meta", inner_steps=16, passes=64, answers=[{"parts": {"input": 0.5}}])
    file = tmp_path / "benchmarks.json"
    file.write_text(record.as_json({"steps": a_record(case, CPU="one")}, []))
    back = record.read(file)["steps"]
    assert back.facts["CPU"] == "one"
    (again,) = back.measured
    assert (again.case, again.seconds, again.answers) == (case.case, case.seconds, case.answers)
    assert (again.heat.title, again.heat.inner_steps) == ("meta", 16)


@pytest.mark.parametrize("content", ["{", '{"form": 1}', '{"form": 2, "groups": {"steps": {}}}', "[]"])
def test_record_that_cannot_be_gone_on_with_says_what_to_do(tmp_path, content):
    file = tmp_path / "benchmarks.json"
    file.write_text(content)
    with pytest.raises(record.NoRecord, match="move it away, or measure all groups"):
        record.read(file)
    assert record.read(tmp_path / "none.json") == {}


def test_page_says_of_each_group_when_and_where_it_was_measured():
    groups = [a_group("steps", "Steps"), a_group("start", "Start"), a_group("never", "Never measured")]
    records = {
        "steps": a_record(measured("ours", (1.0,)), made="2026-11-22", CPU="first"),
        "start": a_record(measured("help", (0.4,)), made="2026-11-26", CPU="second"),
    }
    page = report.page(records, groups, quick=False)
    assert "- A: CPU first." in page
    assert "- B: CPU second." in page
    assert "## Steps\n\nMeasured 2026-11-22.\n\nWhat steps is." in page
    assert "Never measured" not in page


@pytest.fixture
def without_measuring(monkeypatch):
    """Groups of whose heats nothing is run: each has a case of one second, named by the day."""
    day = {"made": "first day"}
    monkeypatch.setattr(run, "GROUPS", (a_group("steps", "Steps"), a_group("start", "Start")))
    monkeypatch.setattr(run, "pytorch_problem", lambda python: None)
    monkeypatch.setattr(
        run, "measure_group", lambda group, quick, pythons: a_record(measured(group.name, (1.0,)), **day)
    )
    return day


def test_only_replaces_its_groups_and_keeps_the_others(tmp_path, without_measuring, capsys):
    arguments = [f"--output_dir={tmp_path}"]
    assert run.main(arguments) == 0
    without_measuring["made"] = "second day"
    assert run.main([*arguments, "--only", "start"]) == 0
    made = {name: each.facts["made"] for name, each in record.read(tmp_path / "benchmarks.json").items()}
    assert made == {"steps": "first day", "start": "second day"}
    page = (tmp_path / "benchmarks.md").read_text()
    assert "## Steps\n\nMeasured first day." in page
    assert "## Start\n\nMeasured second day." in page
    assert sorted(path.name for path in tmp_path.iterdir()) == ["benchmarks.json", "benchmarks.md"]


def test_only_goes_on_with_no_record_of_another_form(tmp_path, without_measuring, capsys):
    (tmp_path / "benchmarks.json").write_text('{"machine": {}}')
    assert run.main([f"--output_dir={tmp_path}", "--only=start"]) == run.USAGE_ERROR
    assert "move it away, or measure all groups" in capsys.readouterr().err
    assert (tmp_path / "benchmarks.json").read_text() == '{"machine": {}}'
    assert run.main([f"--output_dir={tmp_path}"]) == 0  # everything is replaced


def test_unknown_groups_are_refused_with_those_there_are(capsys):
    with pytest.raises(SystemExit) as ended:
        run.parse_options(["--only", "steps,nonsense"])
    assert ended.value.code == run.USAGE_ERROR
    said = capsys.readouterr().err
    assert "'nonsense' is no group" in said
    assert all(group.name in said for group in GROUPS)
    assert run.parse_options(["--only", "start, steps"]).only == ["start", "steps"]


def test_help_of_the_script_names_all_groups():
    script = ROOT / "launch/benchmark.sh"
    said = subprocess.run(["bash", str(script), "--help"], capture_output=True, text=True, check=True).stdout
    assert [group.name for group in GROUPS if group.name not in said] == []


@pytest.mark.parametrize("quick", [True, False])
def test_every_case_names_a_function_that_is_there(quick):
    # Read as text: neither TensorFlow nor PyTorch is wanted here.
    for group in GROUPS:
        heats = group.heats(quick)
        assert len({heat.title for heat in heats}) == len(heats), group.name
        for case in (case for heat in heats for case in heat.cases):
            module, function = case.work.split(".")
            side = "in_pytorch" if case.framework == PYTORCH else "in_tensorflow"
            source = ROOT / "launch/benchmarks" / side / f"{module}.py"
            assert f"\ndef {function}(" in source.read_text(encoding="utf-8"), case
            json.dumps(case.settings)


def test_figures_of_the_documentation_can_be_read():
    records = record.read(ROOT / "docs/benchmarks.json")
    page = report.page(records, GROUPS, quick=False)
    # Every group that is there has its part, made by the code of today, without an error.
    assert [group.title for group in GROUPS if group.name in records and f"## {group.title}\n" not in page] == []
    assert "exemplar_level" in records
