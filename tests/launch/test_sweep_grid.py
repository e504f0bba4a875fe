"""What a sweep's gin file may bind, and the grids that come with the project."""

from __future__ import annotations

import sys

import gin
import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "launch"))

from sweeping.grid import PlannedRun, read_grid

from mnemonics_tf import checks, config

_GRIDS = sorted((ROOT / "configs/sweeps").glob("*.gin"))
_GOOD = """
Grid.methods = ("lwf", "lucir")
Grid.configs = ("configs/datasets/digits.gin",)
Grid.exemplars = {"without": ("configs/base_method.gin",), "ours": ()}
Grid.num_phases = (5, 1)
Grid.seeds = (3, 2)
"""


@pytest.fixture
def read(tmp_path):
    """Reads a grid that is given as text."""

    def read_text(text: str):
        path = tmp_path / "grid.gin"
        path.write_text(text)
        return read_grid(str(path))

    return read_text


def test_runs_come_seed_after_seed_and_in_the_order_of_the_lists(read):
    names = [run.name for run in read(_GOOD).runs()]
    assert names == [
        f"{method}-{variant}-n{number}-seed{seed}"
        for seed in (3, 2)
        for method in ("lwf", "lucir")
        for variant in ("without", "ours")
        for number in (5, 1)
    ]


def test_method_may_be_a_gin_file_of_ones_own(read, tmp_path):
    path = tmp_path / "mine.gin"
    path.write_text("import mine\n")
    grid = read(_GOOD.replace('"lwf"', repr(str(path))))
    first = grid.runs()[0]
    assert first.name == "mine-without-n5-seed3"
    assert first.arguments[0] == f"--gin_file={path}"  # where `mine.py` is found beside it
    with pytest.raises(checks.UsageError, match=r"Grid.methods has 'nowhere\.gin': there is no such file"):
        read(_GOOD.replace('"lwf"', '"nowhere.gin"'))


def test_files_beside_the_grid_come_before_the_projects_own(read, tmp_path, monkeypatch):
    (tmp_path / "my methods").mkdir()
    for name in ("my methods/mine.gin", "variant.gin"):
        (tmp_path / name).write_text("")
    grid = _GOOD.replace('"lwf"', '"my methods/mine.gin"').replace('"ours": ()', '"ours": ("variant.gin",)')
    first, ours = (run.arguments for run in read(grid).runs()[:3:2])
    shipped = ("--gin_file=configs/datasets/digits.gin", "--gin_file=configs/base_method.gin")
    assert first[:3] == (f"--gin_file={tmp_path}/my methods/mine.gin", *shipped)
    assert ours[2] == f"--gin_file={tmp_path}/variant.gin"
    (tmp_path / "configs/datasets").mkdir(parents=True)
    (tmp_path / "configs/datasets/digits.gin").write_text("")
    monkeypatch.chdir(tmp_path)  # a grid that is named by its bare file name
    first = read_grid("grid.gin").runs()[0].arguments
    assert first[1] == f"--gin_file={tmp_path}/configs/datasets/digits.gin"


def test_grid_may_include_another_and_use_macros(read, tmp_path):
    (tmp_path / "base.gin").write_text(_GOOD)
    grid = read('include "base.gin"\nours = (7,)\nGrid.seeds = %ours\n')
    assert (list(grid.seeds), list(grid.num_phases)) == ([7], [5, 1])


@pytest.mark.parametrize(
    ("binding", "message"),
    [
        ('Grid.methods = ("lucri",)', "Grid.methods = 'lucri': expected one of "),
        ('Grid.methods = ("lucri",)', "Did you mean 'lucir'?"),
        ('Grid.methods = ("lucir")', "Grid.methods = 'lucir': expected a tuple, such as ('lucir',)."),
        ("Grid.methods = ()", "Grid.methods is empty"),
        ('Grid.methods = ("lucir", "lucir")', "Grid.methods has 'lucir' twice"),
        ('Grid.configs = ("configs/datasets/digit.gin",)', "Did you mean 'digits.gin'?"),
        ('Grid.configs = ("no/such.gin",)', "there is no such file in "),
        ("Grid.configs = ()", "Grid.configs is empty"),
        ("Grid.exemplars = {}", "expected at least one name"),
        ('Grid.exemplars = ("ours",)', "expected at least one name"),
        ('Grid.exemplars = {"a/b": ()}', "has the name 'a/b'"),
        ('Grid.exemplars = {"a-b": ()}', "has the name 'a-b'"),
        ('Grid.exemplars = {"ours": "configs/base_method.gin"}', "expected a tuple"),
        ('Grid.exemplars = {"ours": ("configs/base.gin",)}', "Did you mean 'base_method.gin'?"),
        ('Grid.exemplars = {"ours": ("configs/base_method",)}', "expected a binding"),
        ("Grid.num_phases = (5, 0)", "Grid.num_phases = 0: expected a whole number of at least 1."),
        ("Grid.num_phases = (5.0,)", "Grid.num_phases = 5.0: expected a whole number"),
        ("Grid.num_phases = 5", "Grid.num_phases = 5: expected a tuple, such as (5,)."),
        ("Grid.seeds = (0, 1, 0)", "Grid.seeds has 0 twice"),
        ("Grid.seeds = (-1,)", "Grid.seeds = -1: expected a whole number of at least 0."),
        ("Grid.seeds = ()", "Grid.seeds is empty"),
        ('Grid.bindings = ("Experiment.seed = 1",)', "set Grid.seeds, which overrides it"),
        ('Grid.bindings = ("Protocol.num_phases=1",)', "set Grid.num_phases, which overrides it"),
        ('Grid.bindings = ("class_order.Protocol.num_phases = 1",)', "set Grid.num_phases, which overrides it"),
        ('Grid.bindings = ("Protocol.sizes = (6, 4)",)', "it would overrule Grid.num_phases"),
        ('Grid.exemplars = {"x": ("Protocol.classes = ((1,), (2,))",)}', "it would overrule Grid.num_phases"),
        ("Grid.bindings = (1,)", "Grid.bindings has 1: expected a binding"),
        ('Grid.bindings = ("a.b = 1\\nc.d = 2",)', "expected a binding"),
        ('Grid.bindings = ("import this  # =",)', "expected a binding"),
        ('Grid.exemplars = {"x": ("include \'a.gin\'  # = 1",)}', "expected a binding"),
        ('Grid.methods = ("lwf", "configs/methods/lwf.gin")', "by the names of their files, has 'lwf' twice"),
        ('Grid.configs = ("configs",)', "Grid.configs has 'configs': that is a folder."),
        ("import os", "If you trust the configuration to use it: put its file beside the gin file."),
        ("Grid.seed = (0,)", "line 7). Did you mean 'seeds'? It has: configs, methods, "),
        ("Gird.seeds = (0,)", "Did you mean 'Grid'?"),
        ("seeds = (0,)", "Unknown name 'seeds': a binding is written 'Owner.parameter = value'"),
        ("x/Grid.seeds = (0,)", "Binding of 'x/Grid': scopes are not used here"),
        ("Grid.seeds = (0", "Grid.seeds: the bracket '(' is opened and not closed"),
        ("Grid.seeds = zero", 'a text stands in quotes: expected "zero", found zero'),
        ("Grid.seeds = %undefined", "Unknown macro '%undefined': nothing defines it"),
    ],
)
def test_wrong_grid_is_refused_in_one_line(read, tmp_path, binding, message):
    with pytest.raises(checks.UsageError) as raised:
        read(_GOOD + binding + "\n")
    text = str(raised.value)
    assert message in text
    assert text.startswith(f"--grid = {tmp_path / 'grid.gin'}: ")
    assert "\n" not in text


def test_missing_file_suggests_the_nearest(tmp_path):
    (tmp_path / "digits.gin").write_text(_GOOD)
    with pytest.raises(checks.UsageError, match=r"there is no such file\. Did you mean 'digits.gin'\?"):
        read_grid(str(tmp_path / "digit.gin"))


@pytest.mark.parametrize(
    ("name", "num_runs"),
    [
        ("digits", 8 * 2 * 1 * 3),  # methods x exemplars x N x seeds
        ("digits_joint", 1 * 1 * 1 * 3),
        ("digits_transfer", 3 * 1 * 1 * 3),
        ("cifar100_short", 4 * 2 * 1 * 1),
        ("table1_cifar100", 4 * 2 * 3 * 3),
        ("table2_cifar100", 1 * 6 * 3 * 3),
        ("table_s1_cifar100", 1 * 2 * 3 * 3),
        ("table_s2_cifar100", 4 * 2 * 3 * 3),
        ("parts", 4 * 8 * 1 * 1),
        ("use", 5 * 2 * 1 * 3),
    ],
)
def test_grids_of_the_project_have_the_stated_number_of_runs(name, num_runs):
    path = ROOT / f"configs/sweeps/{name}.gin"
    assert len({run.name for run in read_grid(str(path)).runs()}) == num_runs
    header = path.read_text().partition("\nGrid.")[0].replace("\n# ", " ")
    assert f"{num_runs} runs" in header
    assert f"--grid=configs/sweeps/{name}.gin" in header


def _parse(run: PlannedRun) -> None:
    """Gives a run's arguments to the package, as `main` does."""
    flags = [argument.partition("=")[::2] for argument in run.arguments]
    config.parse(
        [str(ROOT / value) for flag, value in flags if flag == "--gin_file"],
        [value for flag, value in flags if flag == "--gin_param"],
    )


@pytest.fixture
def _no_bindings_left():
    yield
    gin.clear_config()


# Those of the paper's tables, and their like on digits.
_OF_MEMORIES = ("next_phase", "memory", "memory_small", "learned", "learned_phases")
_OF_CODECS = ("bytes", "bytes_short", "coded_phases")
_OTHERS = (*_OF_MEMORIES, *_OF_CODECS, "parts", "use", "use_parts", "analytic_cifar100_short")
_TABLES = [path for path in _GRIDS if path.stem not in _OTHERS]
_VARIANTS = [(path, variant) for path in _TABLES for variant in read_grid(str(path)).exemplars]


@pytest.mark.usefixtures("_no_bindings_left")
@pytest.mark.parametrize(("path", "variant"), _VARIANTS, ids=[f"{path.stem}-{variant}" for path, variant in _VARIANTS])
def test_exemplars_of_the_projects_grids_are_what_their_names_say(path, variant):
    _parse(next(run for run in read_grid(str(path)).runs() if f"-{variant}-" in run.name))
    memory, model_level, finetuning = (
        config.build("ExemplarMemory"),
        config.build("ModelLevel"),
        config.build("BalancedFinetune"),
    )
    assert (config.build("Protocol").num_phases, config.build("Experiment").seed) == (5, 0)
    assert memory.mode == ("total_2000" if "s2" in path.stem else "per_class_20")
    # Table 2 keeps weight transfer and fine-tuning and varies the exemplars; "without" and Joint have nothing of ours,
    # and the schedule of the digits takes weight transfer out.
    ours = variant not in ("without", "all_data")
    transfer = ours and path.stem != "digits"
    assert model_level.weight_transfer == ("per_neuron" if transfer else "none")
    assert finetuning.enabled is (True if ours else None)
    assert model_level.distillation == (variant != "without_distillation")
    strategy, _, adjusted = variant.partition("_")
    if path.stem == "table2_cifar100":
        assert (memory.strategy, memory.adjust) == (strategy, adjusted == "adjusted")
    else:
        assert (memory.strategy, memory.adjust) == (("mnemonics", True) if ours else ("herding", False))


@pytest.mark.usefixtures("_no_bindings_left")
@pytest.mark.parametrize(("variant", "share"), [("published", 0.0), ("balanced", 0.5)])
def test_grid_of_uses_varies_nothing_but_how_memory_is_used(variant, share):
    runs = [run for run in read_grid(str(ROOT / "configs/sweeps/use.gin")).runs() if f"-{variant}-" in run.name]
    assert len(runs) == 5 * 3  # methods x seeds
    for run in runs:
        _parse(run)
        memory, use = config.build("ExemplarMemory"), config.build("Rehearsal")
        assert (memory.strategy, memory.adjust, memory.mode) == ("herding", False, "per_class_20")
        assert (use.memory_share, use.logit_adjustment) == (share, 1.0 if share else 0.0)
        assert config.build("ModelLevel").weight_transfer == "none"


@pytest.mark.usefixtures("_no_bindings_left")
@pytest.mark.parametrize("path", _GRIDS, ids=lambda path: path.stem)
def test_every_run_of_the_projects_grids_parses(path):
    for run in read_grid(str(path)).runs():
        if run.name.endswith("-seed0"):
            _parse(run)
            config.build("Experiment").build_method()


@pytest.mark.usefixtures("_no_bindings_left")
def test_memories_of_equal_bytes_share_phase_0_and_have_equal_steps():
    grid = read_grid(str(ROOT / "configs/sweeps/memory.gin"))
    shared, budgets, steps = set(), {}, set()
    for run in grid.runs():
        if not run.name.endswith("-seed0"):
            continue
        _parse(run)
        memory, level = config.build("ExemplarMemory"), config.build("ExemplarLevel")
        coded_at_first = memory.code_new if memory.code_initial_phase else 0.0
        shared.add((config.build("ModelLevel"), config.build("ResNet"), coded_at_first, memory.adjust))
        budgets.setdefault(memory.bytes_per_class, set()).add(
            (memory.strategy, memory.codec, level.objective if memory.learns else None)
        )
        if memory.learns:
            steps.add(level.epochs * level.steps_per_epoch)
            assert memory.initial == "herding"
        assert config.build("Rehearsal").steps_per_epoch == 47  # ceil((5,000 + 50 * 20) / 128)
    assert (len(shared), len(steps)) == (1, 1)
    # 32 x 32 x 3 bytes and 8 of a label. Three ways of choosing, three of learning, raw and coded.
    assert set(budgets) == {4 * 3080, 10 * 3080, 20 * 3080}
    assert {len(kinds) for kinds in budgets.values()} == {6 * 2}


@pytest.mark.usefixtures("_no_bindings_left")
@pytest.mark.parametrize(
    ("name", "learned"),
    [
        ("next_phase", {"none": "learned"}),
        ("learned", {"none": "means", "head": "gradients", "variances": "variances"}),
    ],
)
def test_memories_of_the_instrument_differ_in_the_memory_alone(name, learned):
    others = set()
    for run in read_grid(str(ROOT / f"configs/sweeps/{name}.gin")).runs():
        _parse(run)
        memory = config.build("ExemplarMemory")
        matching = config.build("Matching")
        told = (
            learned["variances" if matching.spread_weight else matching.gradients] if memory.learns else memory.strategy
        )
        assert f"-{told}{memory.per_class}-" in run.name
        assert memory.per_class in (4, 20)
        assert not memory.adjust
        settings = ("ModelLevel", "ResNet", "BalancedFinetune", "Rehearsal")
        others.add(tuple(config.build(each) for each in settings))
    assert len(others) == 1
