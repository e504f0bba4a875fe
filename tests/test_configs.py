"""Every configuration that is shipped, and every combination of its parts: parsed and built, without any data."""

from __future__ import annotations

import functools
import itertools
import re
import shlex
from pathlib import Path

import gin
import pytest
from conftest import ROOT

from mnemonics_tf import config, methods
from mnemonics_tf.checks import UsageError
from mnemonics_tf.models.classifier import Classifier, ClassifierFactory
from mnemonics_tf.models.resnet import ResNet
from mnemonics_tf.training.rehearsal import Rehearsal

_CONFIGS = ROOT / "configs"
_LEAVES = sorted(path for path in _CONFIGS.glob("*.gin") if path.name != "base_method.gin")
_METHODS, _DATASETS, _SCHEDULES = (
    sorted((_CONFIGS / part).glob("*.gin")) for part in ("methods", "datasets", "schedules")
)
_USES = sorted((_CONFIGS / "rehearsal").glob("*.gin"))
_MEMORIES = sorted((_CONFIGS / "memories").glob("*.gin"))
_SOURCES = ("digits", "tfds", "folder")  # calling them loads data

# Image shape and number of classes by the file of the data set.
_DATA = {
    "digits": ((8, 8, 1), 10),
    "cifar100": ((32, 32, 3), 100),
    "imagenet_subset": ((224, 224, 3), 100),
    "imagenet": ((224, 224, 3), 1000),
    "folder": ((64, 64, 3), 20),
}


@pytest.fixture(autouse=True)
def _no_bindings_left():
    yield
    gin.clear_config()


@functools.cache
def _network(network: ResNet, image_shape: tuple[int, int, int], head: str) -> Classifier:
    return ClassifierFactory(network, image_shape, None, head).build(2, 2)


def _build(files: list[Path], dataset: str) -> None:
    """Parses the files and makes everything that a run makes before it looks at its data."""
    # The one thing that users must say themselves.
    config.parse([str(path) for path in files], ['folder.path = "somewhere"'])
    for name in config.CONFIGURABLES:
        if name not in _SOURCES:
            config.build(name)
    experiment, budget = config.build("Experiment"), config.build("ExemplarMemory")
    method = experiment.build_method()
    image_shape, num_classes = _DATA[dataset]
    sizes = config.build("Protocol").phase_sizes(num_classes)
    assert sum(sizes) == num_classes
    budget.check_fits(sizes, class_sizes=[130] * num_classes, num_parts=2)
    head = experiment.head or method.head
    number = 1 if budget.counts_bytes else budget.count(num_classes)  # of bytes one image at least is left
    method.check(number if budget.keeps else 0, head)
    network = config.build("ResNet")
    network.check_image_shape(image_shape)
    hashable = ResNet(tuple(network.blocks), tuple(network.widths), network.stem, network.embedding_dim)
    assert _network(hashable, image_shape, head).num_classes == 4


def _dataset_of(leaf: Path) -> str:
    return next(name for name in sorted(_DATA, key=len, reverse=True) if f"_{name}" in leaf.stem)


@pytest.mark.parametrize("leaf", _LEAVES, ids=lambda path: path.stem)
def test_every_leaf_parses_and_builds(leaf):
    _build([leaf], _dataset_of(leaf))


@pytest.mark.parametrize(
    ("method", "dataset"), list(itertools.product(_METHODS, _DATASETS)), ids=lambda path: path.stem
)
def test_every_method_goes_with_every_data_set_on_every_schedule(method, dataset):
    for schedule in (None, *_SCHEDULES):
        _build([method, dataset] if schedule is None else [method, dataset, schedule], dataset.stem)


@pytest.mark.parametrize("leaf", _LEAVES, ids=lambda path: path.stem)
def test_every_leaf_goes_without_the_mnemonics(leaf):
    _build([leaf, _CONFIGS / "base_method.gin"], _dataset_of(leaf))
    memory = config.build("ExemplarMemory")
    assert not memory.learns
    assert not memory.adjust
    assert (memory.codec, memory.code_new, memory.counts_bytes) == ("raw", 0.0, False)
    assert config.build("Rehearsal") == Rehearsal()
    assert config.build("ModelLevel").scale_form is None
    assert config.build("BalancedFinetune").enabled is None


_OURS = """
ExemplarMemory.total_bytes = 600000
ExemplarMemory.low_resolution = 2
ExemplarLevel.learn_labels = True
BalancedFinetune.enabled = True
BalancedFinetune.distil_from = "both"
Rehearsal.memory_share = 0.5
Rehearsal.separated_softmax = True
Rehearsal.learning_rate = 0.02
Rehearsal.schedule = "cosine"
Rehearsal.augment = "all"
Rehearsal.weight_average = 0.9
Rehearsal.steps_per_epoch = 9
"""


def test_base_method_takes_out_whatever_is_ours(tmp_path):
    ours = tmp_path / "ours.gin"
    ours.write_text(_OURS)
    _build([_CONFIGS / "lucir_digits.gin", ours, _CONFIGS / "base_method.gin"], "digits")
    config.resolved().settings.check()
    assert config.build("Rehearsal") == Rehearsal()
    memory = config.build("ExemplarMemory")
    assert (memory.mode, memory.low_resolution) == ("per_class_20", 1)


@pytest.mark.parametrize("leaf", _LEAVES, ids=lambda path: path.stem)
def test_every_leaf_that_keeps_exemplars_takes_each_use_of_memory(leaf):
    for use in _USES:
        _build([leaf, use], _dataset_of(leaf))
        settings = config.resolved().settings
        if settings.memory.keeps:
            settings.check()
        else:
            with pytest.raises(UsageError, match=r"Rehearsal\.memory_share = .*(keeps no memory|trains nothing after)"):
                settings.check()


@pytest.mark.parametrize("memory", _MEMORIES, ids=lambda path: path.stem)
def test_every_leaf_that_learns_takes_each_kind_of_memory(memory):
    for leaf in _LEAVES:
        if leaf.stem.startswith("analytic"):  # keeps no exemplars
            continue
        config.parse([str(leaf), str(memory)], ['folder.path = "somewhere"'])
        config.resolved().settings.check()
        objective = config.build("ExemplarLevel").objective
        shipped = "matching" if leaf.stem == "lucir_cifar100_short" else "temporary_model"
        expected = {"webp": shipped, "coded_short": shipped, "matching_digits": "matching", "ours_short": "matching"}
        assert objective == expected.get(memory.stem, memory.stem)


@pytest.mark.parametrize("schedule", _SCHEDULES, ids=lambda path: path.stem)
@pytest.mark.parametrize("method", ["analytic", "joint", "lwf_without_exemplars"])
def test_methods_that_take_no_mnemonics_train_all_weights_on_every_schedule(method, schedule):
    _build([_CONFIGS / f"methods/{method}.gin", _CONFIGS / "datasets/cifar100.gin", schedule], "cifar100")
    assert config.build("ModelLevel").scale_form is None
    assert not config.build("BalancedFinetune").enabled


@pytest.mark.parametrize("path", [*_LEAVES, *sorted((_CONFIGS / "sweeps").glob("*.gin"))], ids=lambda path: path.stem)
def test_nothing_is_left_to_be_filled_in(path):
    assert not re.search(r"\b(TIME|EXPECTED|TODO)\b", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("schedule", _SCHEDULES, ids=lambda path: path.stem)
@pytest.mark.parametrize("memory", _MEMORIES, ids=lambda path: path.stem)
def test_rates_of_pixels_are_of_the_optimiser_that_takes_them(memory, schedule):
    # Adam's are steps of normalised pixels: at the short schedule's 40 of plain descent it adjusts to noise.
    config.parse([str(schedule), str(memory)], [])
    level = config.build("ExemplarLevel")
    if level.optimiser == "adam":
        assert max(level.learning_rate, level.adjust_learning_rate) <= 0.02


def test_leaves_that_users_type_are_there():
    expected = {
        f"{method}_{dataset}"
        for method, dataset in itertools.product(
            ("lwf", "icarl", "bic", "lucir"), ("digits", "cifar100", "imagenet_subset", "imagenet", "folder")
        )
    }
    assert {path.stem for path in _LEAVES} >= expected | {
        "analytic_cifar100_short",
        "analytic_digits",
        "lucir_cifar100_short",
    }


def test_every_method_has_a_configuration_that_selects_it():
    selected = set()
    for path in _METHODS:
        config.parse([str(path)], ["Experiment.dataset = @digits"])
        method = config.build("Experiment").build_method()
        assert path.stem.startswith(method.name)
        selected.add(method.name)
    assert selected == set(methods.available())


@pytest.mark.parametrize("leaf", _LEAVES, ids=lambda path: path.stem)
def test_header_of_a_leaf_says_how_to_run_it(leaf):
    header = "".join(
        itertools.takewhile(lambda line: line.startswith("#"), leaf.read_text(encoding="utf-8").splitlines(True))
    )
    assert f"--gin_file=configs/{leaf.name}" in header
    for title in ("Command:", "Needs:", "Time:"):
        assert title in header
    # At most two includes deep, a few lines long.
    bindings = [line for line in leaf.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    assert len(bindings) <= 6


def _commands(path: Path) -> list[str]:
    """The arguments of `mnemonics_tf.main` in each command of a header, lines that go on joined."""
    header = itertools.takewhile(lambda line: line.startswith("#"), path.read_text(encoding="utf-8").splitlines())
    text = "\n".join(line.removeprefix("#") for line in header).replace("\\\n", " ")
    return re.findall(r"python -m mnemonics_tf\.main (.+)", text)


@pytest.mark.parametrize(
    "path", [*_LEAVES, *_USES, *_MEMORIES, _CONFIGS / "base_method.gin"], ids=lambda path: path.stem
)
def test_commands_of_a_header_are_of_configurations_that_can_be(path):
    commands = _commands(path)
    assert commands
    for command in commands:
        files, bindings = [], ["folder.path = 'somewhere'"]
        for argument in shlex.split(command):
            flag, _, value = argument.partition("=")
            if flag == "--gin_file":
                files.append(str(ROOT / value))
            elif flag == "--gin_param":
                bindings.append(value)
        assert any(Path(file).samefile(path) for file in files)
        config.parse(files, bindings)
        config.resolved().check()


@pytest.mark.parametrize(
    ("method", "dataset", "value"),
    [("lucir", "cifar100", 5.0), ("lucir", "imagenet", 10.0), ("lucir", "imagenet_subset", 10.0)],
)
def test_weights_of_the_losses_follow_the_data_set(method, dataset, value):
    config.parse([str(_CONFIGS / f"{method}_{dataset}.gin")], [])
    assert config.build(method).less_forget_weight == value


@pytest.mark.parametrize(
    "path", [*_LEAVES, *_METHODS, *_DATASETS, *_SCHEDULES, *_USES, *_MEMORIES], ids=lambda path: path.stem
)
def test_files_that_a_header_names_exist(path):
    for name in re.findall(r"configs/[\w/]+\.gin", path.read_text(encoding="utf-8")):
        assert (ROOT / name).is_file(), name
