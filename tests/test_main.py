"""Runs through the command line, and the files they leave."""

from __future__ import annotations

import json
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from conftest import ROOT, run_main, tiny_arguments

from mnemonics_tf.data.class_order import class_order
from mnemonics_tf.system import locks


@pytest.fixture(scope="module")
def results(tiny_run):
    return json.loads((tiny_run / "results.json").read_text())


def test_run_leaves_the_documented_files(tiny_run):
    assert (tiny_run / "config.gin").is_file()
    assert list((tiny_run / "tensorboard").glob("events.*"))
    for phase in ("000", "001"):
        folder = tiny_run / "phases" / phase
        names = {path.name for path in folder.iterdir()}
        looked_at = {"confusion.npz", "starting_images.npz"}
        assert names == {"checkpoint", "exemplars.npz", "metrics.json", "saved_model", "COMPLETE", *looked_at}


def test_results_hold_what_the_schema_says(results):
    assert results["schema_version"] == 2
    assert (results["dataset"], results["method"], results["exemplars"]) == ("digits", "lucir", "mnemonics")
    assert results["class_order"] == class_order(10, 1993).tolist()
    assert [phase["num_classes"] for phase in results["phases"]] == [5, 10]
    for name in ("cnn", "nme"):
        accuracies = [phase["accuracy"][name] for phase in results["phases"]]
        assert results["average_accuracy"][name] == pytest.approx(sum(accuracies) / 2)
        first, last = (phase["initial_classes_accuracy"][name] for phase in results["phases"])
        assert results["forgetting"][name] == pytest.approx(first - last)
        assert len(results["phases"][1]["group_accuracy"][name]) == 2
        assert all(0 <= value <= 100 for value in accuracies)
    stages = {"train_model", "select_exemplars", "learn_exemplars", "adjust_exemplars", "finetune_balanced"}
    assert stages <= set(results["phases"][1]["seconds"])
    for phase in results["phases"]:
        probed = phase["probe"]
        assert {"network_loss", "finetuned_loss", "finetuned_loss_interval", "scratch_accuracy"} <= set(probed)
        assert all(np.isfinite(value) for value in probed.values())


def test_exemplars_are_learned_and_adjusted(tiny_run, results):
    with np.load(tiny_run / "phases/000/exemplars.npz", allow_pickle=False) as arrays:
        first_images, first_labels = arrays["images"], arrays["labels"]
    with np.load(tiny_run / "phases/001/exemplars.npz", allow_pickle=False) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    assert images.dtype == np.uint8
    assert images.shape == (40, 8, 8, 1)
    # Class ids of the data set, in the order of arrival.
    np.testing.assert_array_equal(labels, np.repeat(results["class_order"], 4))
    np.testing.assert_array_equal(first_labels, labels[:20])
    assert (first_images != images[:20]).any()


@pytest.mark.heavy
def test_every_switch_of_the_exemplar_level_goes_with_every_other(tmp_path, call_main):
    bindings = (
        'ExemplarMemory.initial = "herding"',
        "ExemplarMemory.low_resolution = 2",
        'ExemplarLevel.engine = "truncated"',
        "ExemplarLevel.window = 1",
        "ExemplarLevel.checkpoint_every = 1",
        'ExemplarLevel.batch_norm = "batch"',
        "ExemplarLevel.classes_per_chunk = 3",
        "ExemplarLevel.clip_norm = 2.0",
        "ExemplarLevel.learn_labels = True",
        'ExemplarLevel.learned_rates = "per_step"',
        'ExemplarLevel.augmentation = ("crop", "colour")',
        "Probe.enabled = False",
    )
    code, stderr = call_main(tiny_arguments(tmp_path / "run", *bindings))
    assert code == 0, stderr
    with np.load(tmp_path / "run/phases/001/exemplars.npz", allow_pickle=False) as arrays:
        # As many bytes of images as without low resolution.
        assert arrays["images"].shape == (40, 8, 8, 1)
        assert arrays["soft_labels"].shape == (40, 10)
        np.testing.assert_allclose(arrays["soft_labels"].sum(axis=1), 1, rtol=1e-4)
        classes = arrays["soft_label_classes"]
        np.testing.assert_array_equal(classes[arrays["soft_labels"].argmax(axis=1)], arrays["labels"])
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert [phase["probe"] for phase in results["phases"]] == [{}, {}]


def test_screen_shows_a_table_and_no_library_noise(tiny_run):
    stdout = (tiny_run.parent / "stdout.txt").read_text()
    stderr = (tiny_run.parent / "stderr.txt").read_text()
    assert "average" in stdout
    assert str(tiny_run / "results.json") in stdout
    first, *others = stderr.splitlines()
    assert first.startswith(
        "phases 0 to 1: lucir with mnemonics exemplars (per_class_4) on digits, 10 classes (2 x 5), "
    )
    assert re.search(r"1,347 training images, 1 CPU; about \d+ (s|minutes) to go$", first)
    # In a file a line a stage, if it takes more than a moment, and one after each phase; no bars.
    stages = [line for line in others if re.fullmatch(r"phase [01]/1 [a-z_]+: \d+ s", line)]
    moved = [line for line in others if "exemplars moved by" in line]
    assert [line.partition(" exemplars")[0] for line in moved] == [
        "phase 0: learned", "phase 1: learned", "phase 1: adjusted"
    ]  # fmt: skip
    phases = [line for line in others if line not in (*stages, *moved)]
    assert len(phases) == 2
    for index, line in enumerate(phases):
        rest = r"; about \d+ (s|minutes) to go" if index == 0 else ""
        classes = (5, 10)[index]
        assert re.fullmatch(
            rf"phase {index}/1: cnn \d+\.\d\d %, nme \d+\.\d\d % of {classes} classes, in .*{rest}", line
        )


def test_resumed_run_ends_like_one_that_was_never_killed(tiny_run, results, tmp_path):
    folder = tmp_path / "resumed"
    shutil.copytree(tiny_run, folder)
    shutil.rmtree(folder / "phases/001")
    (folder / "phases/001.partial").mkdir()  # what a killed process leaves
    written = (folder / "phases/000/COMPLETE").stat().st_mtime_ns
    finished = run_main(tiny_arguments(folder))
    assert finished.returncode == 0, finished.stderr
    assert (folder / "phases/000/COMPLETE").stat().st_mtime_ns == written
    for name in ("phases/000/exemplars.npz", "phases/001/exemplars.npz"):
        assert (folder / name).read_bytes() == (tiny_run / name).read_bytes()
    resumed = json.loads((folder / "results.json").read_text())
    assert resumed["average_accuracy"] == results["average_accuracy"]
    assert not (folder / "phases/001.partial").exists()


@pytest.mark.heavy
def test_same_seed_gives_the_same_bytes(tiny_run, tmp_path):
    """Of both phases and of mnemonics; `test_streamed_runs` has the same of quicker runs."""
    finished = run_main(tiny_arguments(tmp_path / "again"))
    assert finished.returncode == 0, finished.stderr
    for phase in ("000", "001"):
        name = f"phases/{phase}/exemplars.npz"
        assert (tmp_path / "again" / name).read_bytes() == (tiny_run / name).read_bytes()


def test_finished_run_shows_its_result_again(tiny_run, call_main):
    before = (tiny_run / "phases/001/COMPLETE").stat().st_mtime
    assert call_main(tiny_arguments(tiny_run)) == (0, "")
    assert (tiny_run / "phases/001/COMPLETE").stat().st_mtime == before


def test_finished_run_shows_its_result_without_tensorflow_and_data(tiny_run):
    script = textwrap.dedent("""
        import runpy, sys
        for name in ("tensorflow", "keras", "sklearn"):  # scikit-learn carries the digits
            sys.modules[name] = None  # importing it fails
        runpy.run_module("mnemonics_tf.main", run_name="__main__", alter_sys=True)
    """)
    before = (tiny_run / "results.json").read_bytes()
    command = [sys.executable, "-c", script, *tiny_arguments(tiny_run)]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout == (tiny_run.parent / "stdout.txt").read_text()
    assert (tiny_run / "results.json").read_bytes() == before
    # With other settings it is refused as ever.
    refused = subprocess.run([*command, "--gin_param=ModelLevel.epochs = 3"], cwd=ROOT, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "+ModelLevel.epochs = 3" in refused.stderr


def test_saved_model_serves_without_this_package(tiny_run, tmp_path):
    from sklearn.datasets import load_digits

    images = np.rint(load_digits().images[:50, ..., None] * (255 / 16)).astype(np.uint8)
    np.save(tmp_path / "images.npy", images)
    script = textwrap.dedent("""
        import sys
        sys.modules["mnemonics_tf"] = None  # importing it would fail
        import numpy as np, tensorflow as tf
        model = tf.saved_model.load(sys.argv[1])
        served = model.signatures["serving_default"](images=tf.constant(np.load("images.npy")))
        direct = model.serve(tf.constant(np.load("images.npy")))
        columns = model.classes()
        np.savez("served.npz", direct=direct["probabilities"], columns=columns["class_ids"],
                 names=[name.decode() for name in columns["class_names"].numpy()],
                 **{key: value for key, value in served.items() if key != "class_names"},
                 class_names=[name.decode() for name in served["class_names"].numpy()])
    """)
    command = [sys.executable, "-c", script, str(tiny_run / "phases/001/saved_model")]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr
    served = np.load(tmp_path / "served.npz")
    expected = _probabilities_in_this_process(tiny_run, images)
    np.testing.assert_allclose(served["probabilities"], expected, atol=1e-5)
    np.testing.assert_array_equal(served["direct"], served["probabilities"])
    order = class_order(10, 1993)
    np.testing.assert_array_equal(served["columns"], order)
    np.testing.assert_array_equal(served["class_ids"], order[expected.argmax(axis=1)])
    np.testing.assert_array_equal(served["class_names"], [str(class_id) for class_id in served["class_ids"]])
    assert served["embeddings"].shape == (50, 8)


def test_run_becomes_a_version_for_each_phase(tiny_run, tmp_path):
    command = [sys.executable, "-m", "mnemonics_tf.export", str(tiny_run), str(tmp_path / "models")]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert (finished.returncode, finished.stderr) == (0, "")
    versions = [tmp_path / "models/tiny" / number for number in "12"]
    assert finished.stdout.splitlines() == [
        *(f"version     {version}" for version in versions), f"models      {tmp_path / 'models/models.config'}",
    ]  # fmt: skip
    for phase, version in enumerate(versions):
        assert (version / "saved_model.pb").samefile(tiny_run / f"phases/00{phase}/saved_model/saved_model.pb")


def _probabilities_in_this_process(run, images):
    """Restores the checkpoint of phase 1 and normalises by hand: mean and deviation of phase 0's training images."""
    from mnemonics_tf.data.sources import digits
    from mnemonics_tf.models.classifier import ClassifierFactory
    from mnemonics_tf.models.resnet import ResNet

    train = digits().train
    seen = train.images[np.isin(train.labels, class_order(10, 1993)[:5])] / 255.0
    model = ClassifierFactory(ResNet((1,), (8,), embedding_dim=8), (8, 8, 1), "per_neuron").build(5, 5)
    model.load_weights(run / "phases/001/checkpoint/model.weights.h5")
    logits = model((images / 255.0 - seen.mean()) / seen.std()).logits.numpy().astype(np.float64)
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def test_wrong_flag_is_one_line_and_exit_code_2():
    finished = run_main(["--gin_fil=x"])
    assert finished.returncode == 2
    assert "Unknown command line flag 'gin_fil'" in finished.stderr
    assert finished.stderr.count("\n") == 1


def test_help_needs_neither_tensorflow_nor_gin():
    command = [sys.executable, "-X", "importtime", "-m", "mnemonics_tf.main", "--help"]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert finished.returncode == 0  # absl's own code is 1
    assert "--gin_file" in finished.stdout
    imported = {line.rpartition("|")[2].strip() for line in finished.stderr.splitlines()}
    assert "mnemonics_tf.system.screen" in imported
    assert not imported & {"tensorflow", "keras", "gin", "scipy", "sklearn"}


@pytest.mark.parametrize(
    ("bindings", "message"),
    [
        (["Experimnt.seed = 1"], "Did you mean 'Experiment'"),
        (["ModelLevel.epoch = 1"], "Did you mean 'epochs'"),
        (["Experiment.method = @lucyr"], "Did you mean 'lucir'"),
        (["Protocol.num_phases = 3"], "cannot be dealt evenly"),
        (["ExemplarMemory.per_class = 1000"], "the smallest class there has"),
        (["ExemplarMemory.per_class = 1"], "splits each class in 2 parts"),
        (["ModelLevel.epochs = 'many'"], "ModelLevel.epochs = 'many'"),
        (["ModelLevel.weight_transfer = 'per_neurone'"], "Did you mean 'per_neuron'"),
        (["ResNet.widths = (8, 16)"], "one number of blocks and one width"),
        (["ResNet.blocks = (1,1,1,1,1)", "ResNet.widths = (8,8,8,8,8)"], "too small for a ResNet"),
        (["Experiment.dataset = @tfds", "tfds.name = 'cifr100'"], "Did you mean 'cifar100'"),
        (["this is no binding"], "configuration cannot be read"),
        (["ExemplarMemory.adjust = 'False'"], "expected True or False"),
        (["Experiment.dataset = @digits()"], "without parentheses"),
        (["Experiment.dataset = @lucir"], "expected a dataset"),
        (["folder.path = '/my/images'"], "nothing reads it, as Experiment.dataset = @digits"),
        (["Experiment.method = @digits"], "expected a method"),
        (["Experiment.dataset = @tfds", "tfds.name = 'cifar100:9.9.9'"], "tfds.name = 'cifar100:9.9.9'"),
        (["Experiment.dataset = @tfds", "tfds.name = 'cifar100'", "tfds.data_dir = '/no/such'"], "no such folder"),
        (["ModelLevel.milestones = (5, 'x')"], "ModelLevel.milestones[1]"),
        (["ExemplarLevel.engine = 'adjoin'"], "Did you mean 'adjoint'"),
        (["ExemplarLevel.inner_steps = 0"], "ExemplarLevel.inner_steps = 0"),
        (["ExemplarLevel.augmentation = ('flip',)"], "a mirrored image of this data set does not show its class"),
        (["ExemplarMemory.low_resolution = 3"], "expected a divisor of both sides of the images, 8 x 8"),
        (["ExemplarLevel.learn_labels = True", "BalancedFinetune.enabled = False"], "only the balanced fine-tuning"),
        (["Probe.repeats = 0"], "Probe.repeats = 0"),
    ],
)
def test_user_mistake_is_one_clear_line_and_touches_nothing(call_main, tmp_path, bindings, message):
    code, shown = call_main(tiny_arguments(tmp_path / "run", *bindings))
    assert code == 2
    assert message in shown
    assert shown.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("file", "bindings", "message"),
    [
        (
            "coded_short",
            ["ExemplarMemory.per_class = 20"],
            "nothing reads it, as ExemplarMemory.bytes_per_class = 61600",
        ),
        ("coded_short", ["ExemplarMemory.codec = 'raw'"], "or code_new = 0 and code_initial_phase = True"),
        ("coded_short", ["ExemplarMemory.per_class = 0"], "per_class = 0, which keeps no exemplars, and Exempl"),
        # Before gigabytes are downloaded and sorted.
        (
            "coded_short",
            ["Experiment.dataset = @tfds", "tfds.name = 'imagenet2012'", "tfds.in_memory = False"],
            "code_new = 0.5: of a data set that is streamed from files",
        ),
    ],
)
def test_memory_in_bytes_says_what_else_must_go(call_main, tmp_path, file, bindings, message):
    files = [f"--gin_file={ROOT / 'configs' / name}" for name in ("lucir_digits.gin", f"memories/{file}.gin")]
    params = [f"--gin_param={binding}" for binding in bindings]
    code, shown = call_main([*files, *params, f"--output_dir={tmp_path / 'run'}"])
    assert (code, shown.count("\n")) == (2, 1)
    assert message in shown
    assert not (tmp_path / "run").exists()


def test_missing_config_names_the_nearest_file(call_main):
    code, shown = call_main([f"--gin_file={ROOT}/configs/lucir_digit.gin"])
    assert code == 2
    assert "Did you mean 'lucir_digits.gin'" in shown


def test_run_of_another_configuration_is_refused_with_the_difference(tiny_run, call_main):
    before = sorted(path.stat().st_mtime for path in tiny_run.rglob("*"))
    code, shown = call_main(tiny_arguments(tiny_run, "ModelLevel.weight_decay = 0.25"))
    assert code == 2
    assert "+ModelLevel.weight_decay = 0.25" in shown
    assert sorted(path.stat().st_mtime for path in tiny_run.rglob("*")) == before


def test_unusable_output_folders_are_refused(call_main, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("something")
    unusable = {tmp_path / "file": "a file is there", "/proc/runs/x": "cannot be used", "": "--output_dir is empty"}
    for folder, message in unusable.items():
        code, shown = call_main(tiny_arguments(folder))
        assert code == 2
        assert message in shown
    assert (tmp_path / "file").read_text() == "something"


def test_phase_that_belongs_elsewhere_is_refused_and_left_alone(tiny_run, call_main, tmp_path):
    folder = tmp_path / "swapped"
    shutil.copytree(tiny_run, folder)
    shutil.rmtree(folder / "phases/001")
    shutil.copytree(folder / "phases/000", folder / "phases/001")
    code, shown = call_main(tiny_arguments(folder))
    assert code == 2
    assert f"{folder}/phases/001 holds phase 0." in shown
    assert (folder / "phases/001/COMPLETE").is_file()


def test_run_that_another_process_has_is_left_to_it(tiny_run, call_main, tmp_path):
    folder = tmp_path / "busy"
    shutil.copytree(tiny_run, folder)
    with locks.hold(str(folder / ".lock")):
        code, shown = call_main(tiny_arguments(folder))
    # A sweep knows it by this code; 3 is that of a run that a signal has stopped.
    assert code == 4
    assert "another process is working there" in shown
    assert shown.count("\n") == 1


def _lines(shown: str) -> list[str]:
    """What does not tell how a run goes."""
    return [line for line in shown.splitlines() if line.strip() and not line.startswith(("phase ", "phases "))]


def test_full_disk_is_one_line(tmp_path):
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))

    # Files of 20 kB at most: weights and the servable model are larger, and so are TensorBoard's files.
    command = [sys.executable, "-m", "mnemonics_tf.main", *tiny_arguments(tmp_path / "run", "ResNet.widths = (16,)")]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, preexec_fn=limit)
    assert finished.returncode == 2
    (line,) = [line for line in _lines(finished.stderr) if "without TensorBoard" not in line]
    assert line.startswith(f"mnemonics_tf: {tmp_path}/run")
    assert "cannot be written: File too large. Make room there" in line
    # What the phase had come to may stay, whole; there is no half of anything.
    left = {path.name for path in (tmp_path / "run/phases").rglob("*")}
    assert left <= {"000.snapshots", "train_model.npz", "learn_exemplars.npz"}


def test_signal_ends_a_run_after_its_step_with_a_line_that_says_how_to_go_on(tmp_path):
    often = ("ModelLevel.epochs = 9000", "Experiment.snapshot_seconds = 0.1")
    command = [sys.executable, "-m", "mnemonics_tf.main", *tiny_arguments(tmp_path / "run", *often)]
    file = tmp_path / "run/phases/000.snapshots/train_model_steps.npz"
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        while not file.exists() and process.poll() is None:
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        _, shown = process.communicate(timeout=60)
    assert process.returncode == 3
    # A busy machine may take seconds for a step.
    (line,) = [line for line in _lines(shown) if "it stops at the end of the present step" not in line]
    assert line.startswith("mnemonics_tf: stopped by SIGTERM; what train_model_steps has come to is kept. Go on with: ")
    assert line.endswith(f"-m mnemonics_tf.main {shlex.join(command[3:])}")
    assert not list(tmp_path.glob("run/scratch-*"))
    with np.load(file) as kept:
        assert 0 < kept["step"] < 9000 * 8


@pytest.mark.heavy
def test_run_that_is_killed_at_random_moments_ends_with_the_same_bytes(tiny_run, tmp_path):
    folder, generator = tmp_path / "killed", np.random.default_rng(0)
    command = [sys.executable, "-m", "mnemonics_tf.main", *tiny_arguments(folder, "Experiment.snapshot_seconds = 0.05")]
    kills = 0
    while kills < 40:
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
            while not list(tmp_path.glob("killed/scratch-*")) and process.poll() is None:
                time.sleep(0.05)
            try:
                process.wait(generator.uniform(0, 12))
            except subprocess.TimeoutExpired:
                process.send_signal((signal.SIGKILL, signal.SIGTERM)[kills % 2])
                kills += 1
            _, shown = process.communicate(timeout=120)
        assert "Traceback" not in shown
        assert process.returncode in (0, 3, -signal.SIGKILL), shown
        if process.returncode == 0:
            break
    assert process.returncode == 0
    assert kills > 2
    for phase in ("000", "001"):
        for name in ("exemplars.npz", "checkpoint/model.weights.h5", "confusion.npz"):
            path = f"phases/{phase}/{name}"
            assert (folder / path).read_bytes() == (tiny_run / path).read_bytes(), path


@pytest.mark.heavy
def test_signal_before_anything_is_learned_ends_a_run_at_once(tmp_path):
    started = [sys.executable, "-m", "mnemonics_tf.main", *tiny_arguments(tmp_path / "run", "ModelLevel.epochs = 9000")]
    with subprocess.Popen(started, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        while not list(tmp_path.glob("run/scratch-*")) and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGHUP)
        _, shown = process.communicate(timeout=60)
    assert process.returncode == 3
    (line,) = _lines(shown)
    assert line.startswith("mnemonics_tf: stopped by SIGHUP. Go on with: ")


def test_nan_loss_names_its_stage_and_keeps_earlier_phases(call_main, tmp_path):
    # The less-forget term exists from phase 1 on; this weight overflows float32 there.
    plain = (
        'ExemplarMemory.strategy = "herding"',
        "ExemplarMemory.adjust = False",
        "BalancedFinetune.enabled = False",
        "Probe.enabled = False",
    )
    code, shown = call_main(tiny_arguments(tmp_path / "run", "lucir.less_forget_weight = 1e38", *plain))
    assert code == 2
    assert "in stage train_model" in shown
    assert (tmp_path / "run/phases/000/COMPLETE").is_file()
    assert not (tmp_path / "run/phases/001").exists()
    assert json.loads((tmp_path / "run/results.json").read_text())["phases"][0]["num_classes"] == 5


def test_page_on_the_run_shows_features_and_what_exemplars_began_as(tiny_run, results, tmp_path, monkeypatch):
    from mnemonics_tf.data.sources import Digits
    from mnemonics_tf.report.page import drawing, site

    monkeypatch.setattr(drawing, "_FORMATS", {"svg": {}})  # other files take long, and are looked at in tests/report

    # Without its confusions, as earlier versions left it: they are found by its network.
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run, ignore=shutil.ignore_patterns("confusion.npz"))
    path = site.write_run_page(str(run), str(run / "report"), looks_at_data=True)
    assert path == str(run / "report/index.html")
    text = (run / "report/index.html").read_text(encoding="utf-8")
    assert 'class="missing"' not in text
    assert "early phase (5 classes)" in text
    assert "late phase (10 classes)" in text
    assert "as chosen" in text
    assert (run / "report/figures/tsne.svg").stat().st_size > 5000
    assert "computed for this page" in text

    data = Digits().load()
    with np.load(tiny_run / "phases/000/starting_images.npz") as start:
        known = {image.tobytes() for image in data.train.images}
        assert {image.tobytes() for image in start["images"]} <= known
    with np.load(tiny_run / "phases/001/confusion.npz") as confusion:
        assert confusion["class_ids"].tolist() == results["class_order"]
        counts = confusion["cnn"]
    assert counts.sum(axis=1).tolist() == [int((data.test.labels == each).sum()) for each in results["class_order"]]
    assert 100 * np.trace(counts) / counts.sum() == pytest.approx(results["phases"][1]["accuracy"]["cnn"])
