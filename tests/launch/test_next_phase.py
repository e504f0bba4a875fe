"""The instrument: later phases from one phase 0, and its table."""

from __future__ import annotations

import dataclasses
import importlib
import json
import pathlib
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT, TINY_BINDINGS

sys.path.insert(0, str(ROOT / "launch"))

from instrument import curves, outcomes, pairs
from instrument.balance import balanced_accuracy
from instrument.likeness import distance_of_means
from instrument.outcomes import Outcome

from mnemonics_tf.system import sources

_OUTCOME = Outcome(
    method="replay",
    memory="random",
    num_phases=5,
    seed=0,
    length=1.0,
    training_seed=0,
    classifier="cnn",
    accuracy={"cnn": {"all": 40.0, "old": 30.0, "new": 60.0}},
    images_per_class=4.0,
    bytes_per_class=256.0,
    steps=100,
    seconds=10.0,
    memory_seconds=1.0,
)


def _call(tmp_path, *flags: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "launch/next_phase.py"), f"--output_dir={tmp_path / 'out'}", *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def _grid(folder: pathlib.Path) -> str:
    skipped = ("ExemplarMemory", "Protocol")
    bindings = [binding for binding in TINY_BINDINGS if not binding.startswith(skipped)]
    (folder / "grid.gin").write_text(f"""
Grid.methods = ("replay",)
Grid.configs = ("configs/datasets/digits.gin", "configs/base_method.gin")
Grid.exemplars = {{
    "four": ("ExemplarMemory.per_class = 4", "ExemplarMemory.strategy = 'random'"),
}}
Grid.num_phases = (5,)
Grid.seeds = (0,)
Grid.bindings = {tuple(bindings)!r}
""")
    return str(folder / "grid.gin")


def test_memory_has_later_phases_of_every_length_and_they_are_not_run_twice(tmp_path):
    flags = (f"--grid={_grid(tmp_path)}", "--lengths=1,2")
    finished = _call(tmp_path, *flags)
    assert finished.returncode == 0, finished.stderr
    files = [tmp_path / f"out/replay-four-n5-seed0-length{length}-training0.json" for length in (1, 2)]
    written = [path.stat().st_mtime_ns for path in files]
    assert len(list((tmp_path / "out/initial_phases").glob("*.npz"))) == 1
    rows = [line.split(" | ") for line in finished.stdout.splitlines() if line.startswith("| replay")]
    # An exemplar: 8 x 8 pixels, and 8 bytes of a label.
    assert [row[2:6] for row in rows] == [["four", "4.0", "288", "1"], ["four", "4.0", "288", "2"]]
    assert int(rows[1][6]) == 2 * int(rows[0][6]) > 0
    for row in rows:
        everything, balanced, old, new = (float(cell) for cell in row[7:11])
        assert min(old, new) <= everything <= max(old, new)
        assert 0 < balanced <= 100
        assert all(float(cell.rstrip(" |")) > 0 for cell in row[-2:])
    assert (tmp_path / "out/table.md").read_text() in finished.stdout
    assert f"Accuracy over steps: {tmp_path / 'out/curves.png'}" in finished.stdout
    assert (tmp_path / "out/curves.png").exists()
    again = _call(tmp_path, *flags)
    assert again.stdout == finished.stdout
    assert [path.stat().st_mtime_ns for path in files] == written


def test_later_phases_that_diverge_are_told_one_by_one(tmp_path):
    grid = _grid(tmp_path)
    path = tmp_path / "grid.gin"
    path.write_text(path.read_text().replace("'random'\"", "'random'\", 'Rehearsal.learning_rate = 1e30'"))
    finished = _call(tmp_path, f"--grid={grid}", "--lengths=1,2")
    assert (finished.returncode, finished.stdout) == (1, "")
    for length in (1, 2):
        assert f"replay-four-n5-seed0, length {length}, training seed 0: " in finished.stderr
    assert finished.stderr.count("It is not in the table.") == 2


def test_distance_of_means_is_in_variances_within_classes():
    # Class 0: images at 0 and 4, so a mean of 2 and a variance of 4; the exemplar at 5 is 9 away. Class 1: images at
    # (0, 1) and (0, 3) on another axis, mean 2 and variance 1; exemplars at 2 and 4, so their mean is 1 away.
    images, labels = np.array([[0.0, 0], [4, 0], [0, 1], [0, 3]]), np.array([0, 0, 1, 1])
    memory, memory_labels = np.array([[5.0, 0], [0, 2], [0, 4]]), np.array([0, 1, 1])
    expected = ((9 + 1) / 2) / ((4 + 1) / 2)
    assert distance_of_means(memory, memory_labels, images, labels) == pytest.approx(expected)


def test_balanced_accuracy_is_that_of_the_best_constant_of_the_other_half():
    draws = np.random.default_rng(5)
    labels = draws.integers(0, 5, 400)
    logits = draws.normal(size=(400, 5))
    logits[np.arange(400), labels] += 1.0
    logits[:, 3:] += 2.0  # new classes are favoured

    def right(rows: slice, constant: float) -> np.ndarray:
        shifted = logits[rows].copy()
        shifted[:, :3] += constant
        return shifted.argmax(axis=1) == labels[rows]

    even, odd = slice(0, None, 2), slice(1, None, 2)
    expected = []
    for judged, chosen_on in ((even, odd), (odd, even)):
        best = max(np.arange(-5, 5, 0.002), key=lambda constant: right(chosen_on, constant).mean())
        expected.append(right(judged, best))
    found = balanced_accuracy(logits, labels, 3)
    # A constant is any of an interval between two images: a few of the other half may lie in it.
    assert found == pytest.approx(100 * np.mean(expected), abs=1.0)
    plain = 100 * np.mean(logits.argmax(axis=1) == labels)
    assert found > plain + 5


def test_balanced_accuracy_of_a_network_that_only_favours_new_classes_is_full():
    labels = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    logits = np.eye(4)[labels] + [0, 0, 10, 10]
    assert (logits.argmax(axis=1) == labels).mean() == 0.5
    assert balanced_accuracy(logits, labels, 2) == 100


def test_budget_that_holds_no_image_is_refused_before_anything_is_trained(tmp_path):
    grid = pathlib.Path(_grid(tmp_path))
    few = '"ExemplarMemory.bytes_per_class = 10", "ExemplarMemory.strategy'
    grid.write_text(grid.read_text().replace('"ExemplarMemory.per_class = 4", "ExemplarMemory.strategy', few))
    finished = _call(tmp_path, f"--grid={grid}")
    assert (finished.returncode, finished.stderr.count("\n")) == (2, 1), finished.stderr
    assert "bytes_per_class = 10 leaves 10 bytes of a class" in finished.stderr
    assert not list((tmp_path / "out/initial_phases").glob("*.npz"))


def test_memory_that_cannot_be_is_refused_before_another_is_tried(tmp_path):
    grid = pathlib.Path(_grid(tmp_path))
    both = '"both": ("ExemplarMemory.per_class = 4", "ExemplarMemory.bytes_per_class = 288"),\n}'
    grid.write_text(grid.read_text().replace("}", both, 1))
    finished = _call(tmp_path, f"--grid={grid}")
    assert (finished.returncode, finished.stderr.count("\n")) == (2, 1), finished.stderr
    assert "next_phase: replay-both-n5-seed0: ExemplarMemory.bytes_per_class = 288 and" in finished.stderr
    assert not (tmp_path / "out").exists()


def test_classes_that_come_in_one_phase_are_refused_and_other_sizes_are_told_by_their_number(tmp_path):
    grid = pathlib.Path(_grid(tmp_path))
    text = grid.read_text().replace('"configs/base_method.gin"', '"configs/base_method.gin", "sizes.gin"')
    grid.write_text(text)
    (tmp_path / "sizes.gin").write_text("Protocol.sizes = (10,)")
    finished = _call(tmp_path, f"--grid={grid}")
    assert (finished.returncode, finished.stderr.count("\n")) == (2, 1), finished.stderr
    assert "Protocol.sizes or Protocol.classes has one phase" in finished.stderr
    assert not (tmp_path / "out").exists()
    (tmp_path / "sizes.gin").write_text("Protocol.sizes = (6, 4)")
    tuned = '"tuned": ("ExemplarMemory.per_class = 4", "BalancedFinetune.enabled = True"),\n}'
    grid.write_text(text.replace("}", tuned, 1))
    finished = _call(tmp_path, f"--grid={grid}")
    assert finished.returncode == 0, finished.stderr
    plain, tuned = (
        json.loads((tmp_path / f"out/replay-{memory}-n5-seed0-length1-training0.json").read_text())
        for memory in ("four", "tuned")
    )
    assert (plain["num_phases"], tuned["num_phases"]) == (1, 1)
    # Fine-tuning goes once through 40 exemplars, which are one batch.
    assert tuned["steps"] == plain["steps"] + 1


def test_accuracies_are_those_of_all_old_and_new_classes():
    predictions = SimpleNamespace(
        labels=np.array([0, 0, 1, 2, 2]), by_classifier={"cnn": np.array([0, 1, 1, 2, 0]), "nme": np.full(5, 2)}
    )
    found = outcomes.accuracies(predictions, num_old=2)
    assert found["cnn"] == pytest.approx({"all": 60.0, "old": 200 / 3, "new": 50.0})
    assert found["nme"] == pytest.approx({"all": 40.0, "old": 0.0, "new": 100.0})


def test_table_has_means_and_intervals_and_says_what_is_not_comparable():
    second = dataclasses.replace(
        _OUTCOME, training_seed=1, accuracy={"cnn": {"all": 44.0, "old": 30.0, "new": 60.0}}, balanced=45.0
    )
    longer = dataclasses.replace(_OUTCOME, memory="more", steps=120, meta_steps=50, moved=2.34, still_real=10.0)
    text = outcomes.table([_OUTCOME, second, longer])
    # Student's t with one degree of freedom at 97.5 %: 12.706; s / sqrt(2) = 2.
    assert "| 42.00 ± 25.41 | 45.00 | 30.00 ± 0.00 | 60.00 ± 0.00 | 2 | 11 | 0 | 0.0 | 100 % |" in text
    assert "| 1 | 11 | 50 | 2.3 | 10 % |" in text
    assert "Other steps in replay, N = 5, length 1: random 100, more 120." in text
    assert "have no interval" in text
    assert "Other bytes" not in text
    assert "Other meta-steps" not in text  # there is one learned memory


def test_lines_are_compared_by_what_they_print():
    # 256 and 296 bytes are 276 on average, more than 1 % above 256, though the first of them is not.
    coded = [
        dataclasses.replace(_OUTCOME, memory="coded", seed=seed, bytes_per_class=size)
        for seed, size in enumerate((256.0, 296.0))
    ]
    learned = [dataclasses.replace(_OUTCOME, memory=name, meta_steps=steps) for name, steps in (("a", 50), ("b", 100))]
    text = outcomes.table([_OUTCOME, *coded, *learned])
    assert "Other bytes in replay, N = 5, length 1: random 256, coded 276, a 256, b 256." in text
    assert "Other meta-steps in replay, N = 5, length 1: a 50, b 100." in text
    assert "Other steps" not in text


def _of_all(percent: float, **changes) -> Outcome:
    return dataclasses.replace(_OUTCOME, accuracy={"cnn": {"all": percent, "old": 30.0, "new": 60.0}}, **changes)


def test_pairs_have_seed_and_length_in_common():
    # Against `random`: 2 and 4 points more on its own seeds, whose own difference of 10 is in no pair.
    measured = [
        _of_all(40.0, seed=0),
        _of_all(50.0, seed=1),
        _of_all(42.0, seed=0, memory="herding"),
        _of_all(54.0, seed=1, memory="herding"),
        _of_all(60.0, seed=0, memory="herding", length=2.0),  # without a pair
        _of_all(39.5, seed=1, memory="boundary"),
    ]
    lines = pairs.table(measured, "random").splitlines()
    # Student's t with one degree of freedom: 12.706; s / sqrt(2) = 1.
    assert lines[2:] == [
        "| replay | 5 | herding | 1 | 3.00 ± 12.71 | 2 |  |",
        "| replay | 5 | boundary | 1 | -10.50 | 1 |  |",
    ]
    assert pairs.table(measured[:2], "random") == ""


def test_intervals_are_over_seeds_of_phase_0_and_not_over_what_begins_from_one_network():
    # By seed 42 and 50: 46 ± 12.706 * sqrt(32) / sqrt(2), and 10.5 above `random`.
    values = {(0, 0): 40.0, (0, 1): 44.0, (1, 0): 46.0, (1, 1): 54.0}
    of_random = [_of_all(35.5, seed=seed, training_seed=training) for seed, training in values]
    learned = [
        _of_all(value, seed=seed, training_seed=training, memory="learned")
        for (seed, training), value in values.items()
    ]
    assert "| 46.00 ± 50.82 |" in outcomes.table(learned)
    assert "| 10.50 ± 50.82 | 4 |" in pairs.table([*of_random, *learned], "random")


def test_pairs_tell_whether_they_begin_from_one_network():
    measured = [
        _of_all(40.0, network="a"),
        _of_all(41.0, network="a", memory="learned"),
        _of_all(42.0, network="b", memory="coded"),
    ]
    lines = pairs.table(measured, "random").splitlines()
    assert lines[2:] == [
        "| replay | 5 | learned | 1 | 1.00 | 1 | the same |",
        "| replay | 5 | coded | 1 | 2.00 | 1 | others |",
    ]


def test_table_says_that_it_mixes_versions_of_the_code():
    text = outcomes.table([_of_all(40.0, code="a"), _of_all(41.0, code="b", seed=1)])
    assert "Lines are of 2 versions of the code" in text
    assert "versions" not in outcomes.table([_of_all(40.0, code="a"), _of_all(41.0, code="a", seed=1)])


def test_curves_are_drawn_of_all_memories(tmp_path):
    measured = [
        _of_all(percent, seed=seed, length=length, steps=round(100 * length), memory=memory, method=method)
        for method in ("replay", "lwf")
        for memory in ("random", "herding")
        for seed in (0, 1)
        for length, percent in ((1.0, 40.0), (2.0, 45.0))
    ]
    curves.draw([*measured, _of_all(41.0, memory="of one length")], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.pdf", "curves.png", "curves.svg"]
    shown = (tmp_path / "curves.svg").read_text()
    for text in ("random", "herding", "of one length", "replay, N = 5", "lwf, N = 5", ">200<"):
        assert text in shown


def test_seconds_are_those_of_the_training():
    from mnemonics_tf.learner.steps import STEPS

    seconds = {step.__name__: 10.0**place for place, step in enumerate(STEPS)}
    # train_model, adjust_exemplars and finetune_balanced, by their places in Algorithm 1.
    assert outcomes.training_seconds(seconds) == 1 + 10.0**3 + 10.0**6
    assert outcomes.training_seconds({"train_model": 2.0}) == 2.0


def test_modules_of_ones_own_are_part_of_what_an_outcome_was_made_by(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "weighted_replay_of_mine.py"
    path.write_text("WEIGHT = 1\n")
    importlib.import_module(path.stem)
    text = f"import {path.stem}\nfrom mnemonics_tf.methods import lucir\n\nlucir.margin = 0.5\n"
    before = sources.imported(text)
    assert path.stem in before
    assert "lucir" not in before
    path.write_text("WEIGHT = 2\n")
    assert sources.imported(text) != before
    assert sources.imported("lucir.margin = 0.5\n") == ""


def test_outcome_of_other_settings_is_not_used(tmp_path):
    path = tmp_path / "outcome.json"
    outcomes.save(path, _OUTCOME, "these settings")
    assert outcomes.load(path, "these settings") == _OUTCOME
    assert outcomes.load(path, "others") is None
    assert outcomes.load(tmp_path / "nothing.json", "these settings") is None
    whole = path.read_text()
    path.write_text(whole.replace('"all": 40.0', '"all": 48.0'))
    assert outcomes.load(path, "these settings") is None
    path.write_text(whole[:-20])
    assert outcomes.load(path, "these settings") is None


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "No --grid was given"),
        (("--grid=nowhere.gin",), "there is no such file"),
        (("--grid=configs/sweeps/next_phase.gin", "--lengths=0"), "--lengths = 0.0"),
        (("--grid=configs/sweeps/next_phase.gin", "--lengths=long"), "--lengths has 'long'"),
        (("--grid=configs/sweeps/next_phase.gin", "--lengths=1,2,1.0"), "--lengths has a number twice"),
        (("--grid=configs/sweeps/next_phase.gin", "--lengths=1,1.0000001"), "--lengths has a number twice"),
        (("--grid=configs/sweeps/next_phase.gin", "--lengths=1e300"), "--lengths has 1e300: expected at most 1000"),
        (("--grid=configs/sweeps/next_phase.gin", "--lengths=1,1.01"), "--lengths has 1 and 1.01: both are 8 of"),
        (
            ("--grid=configs/sweeps/next_phase.gin", "--lengths=1,0.1"),
            "--lengths has 0.1: ModelLevel.milestones = (4, 6)",
        ),
        (("--grid=configs/sweeps/next_phase.gin", "--output_dir="), "--output_dir is empty: expected a folder."),
        (("--grid=configs/sweeps/next_phase.gin", "--training_seeds=0"), "--training_seeds = 0"),
        (("--grid=configs/sweeps/learned.gin", "--against=herding"), "Did you mean 'herding4'?"),
    ],
)
def test_wrong_flags_are_one_line_and_touch_nothing(tmp_path, flags, message):
    finished = _call(tmp_path, *flags)
    assert (finished.returncode, finished.stderr.count("\n")) == (2, 1), finished.stderr
    assert message in finished.stderr
    assert not (tmp_path / "out").exists()
