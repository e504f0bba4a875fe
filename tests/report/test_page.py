"""Pages on runs: what they show, what they say is missing, and that names do no harm to them."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import json
import re
import shutil
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
import tensorflow as tf
from page_folders import NAMES, write_full_run
from run_folders import WITHOUT_OURS, call_report, write_run, write_seeds

from mnemonics_tf.report import groups, runs
from mnemonics_tf.report.page import class_figures, curves, drawing, site
from mnemonics_tf.report.page.blocks import MissingError
from mnemonics_tf.report.page.embedding import network_of
from mnemonics_tf.report.page.gallery import galleries
from mnemonics_tf.report.page.one_run import RunPage
from mnemonics_tf.report.page.record import read_record
from mnemonics_tf.report.page.words import verdict


class _Reader(HTMLParser):
    """Collects elements and text; void and SVG elements count too."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text, self.scripts = [], [], [], 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.append(dict(attrs))

    def handle_data(self, data):
        self.text.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


def _read(path):
    return _Reader(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """The folder of a run with everything, and its page."""
    folder = write_full_run(tmp_path_factory.mktemp("pages") / "<i>run & co</i>")
    path = site.write_run_page(str(folder), str(folder / "report"), looks_at_data=False)
    assert path == str(folder / "report/index.html")
    return folder


@pytest.fixture(autouse=True)
def no_further_files(monkeypatch):
    """Figures of all pages but that of `full`, which is made before, are files of one kind, in half of the time."""
    monkeypatch.setattr(drawing, "_FORMATS", {"svg": {}})


@pytest.fixture
def call(capsys):
    return functools.partial(call_report, capsys)


def test_accuracy_on_old_classes_is_of_their_images(tmp_path):
    run = write_run(tmp_path / "run", phase_sizes=[1, 1, 1])
    read = json.loads((run / "results.json").read_text())
    read["phases"][2]["group_accuracy"] = {"cnn": [90.0, 10.0, 50.0], "nme": [90.0, 10.0, 50.0]}
    (run / "results.json").write_text(json.dumps(read))
    assert read_record(str(run)).of_old_classes(2) == 50.0  # nothing says how many images there were
    # 90 of 100 images and 2 of 20.
    counts = np.array([[90, 10, 0], [18, 2, 0], [0, 5, 5]])
    (run / "phases/002").mkdir(parents=True)
    np.savez(run / "phases/002/confusion.npz", class_ids=read["class_order"], cnn=counts, nme=counts)
    assert read_record(str(run)).of_old_classes(2) == pytest.approx(100 * 92 / 120)


def test_page_shows_all_that_a_run_has(full):
    page = _read(full / "report/index.html")
    titles = {"accuracy", "old-and-new", "confusion", "classes", "memory", "features", "optimisation", "time", "tables"}
    assert titles <= {attributes.get("id") for attributes in page.attributes}
    missing = [attributes for attributes in page.attributes if attributes.get("class") == "missing"]
    assert len(missing) == 3  # t-SNE, which was not asked for, and a note of each of two phases
    assert "Phase 1: half of <b>phase 1</b> was left out. Phase 2: half of" in page.words
    # (0.5 + 1.5 + 2.5) / 3 grey levels.
    moved = "New exemplars moved by 1.50 grey levels a pixel in the mean over the phases, 9 at most; 30.0 % of them"
    assert f"{moved} are still real images, as learning left them." in page.words
    assert "Old exemplars have not moved: all of them are still what they were before they were adjusted" in page.words
    assert "After phase 2 the network knows 7 classes and is right on 50.0 %." in page.words
    assert "28 exemplars, 4 of each class, take 5,600 bytes in all and at most 800 for a class" in page.words
    assert "All phases together took 3 min 40 s." in page.words
    tips = [attributes["data-tip"] for attributes in page.attributes if "data-tip" in attributes]
    assert "CNN (head), phase 1: 50.00 %" in tips
    assert "after phase 2, classes of phase 0: 50.0 %" in tips
    # Means over both chunks of classes: 0.01 * 2 and that plus 1; 0.5 * 2 in both.
    assert {"phase 1, epoch 2: 0.52", "phase 1, epoch 2: 1"} <= set(tips)
    assert f"{NAMES[1]} (phase 0): 78 % at the end, 91 % when it arrived" in tips  # 21 of 27, then 21 of 23


def _long_names(count):
    return [f"Common European starling (Sturnus vulgaris), juvenile, from behind in winter {i}" for i in range(count)]


@pytest.mark.parametrize("names", [["mushroom", "road", "palm_tree", "snake", "bicycle"], _long_names(5)])
def test_legend_below_a_narrow_figure_is_not_cut_off(names):
    with drawing.sketch(4.4, 3.0) as sketch:
        axes = sketch.figure.subplots()
        handles = {name: axes.scatter([0], [0]) for name in ["other classes", *names]}
        drawing.legend_below(sketch.figure, handles)
        sketch.figure.draw_without_rendering()
        (legend,) = sketch.figure.legends
        box, texts = legend.get_window_extent(), [text.get_text() for text in legend.get_texts()]
    assert box.x0 >= 0
    assert box.x1 <= sketch.figure.bbox.width
    assert len(set(texts)) == 6
    assert [text[-1] for text in texts[1:]] == [name[-1] for name in names]


def test_long_names_leave_room_for_the_figures_of_classes():
    names = _long_names(7)
    of_phase = np.repeat([0, 1, 2], [3, 2, 2])
    for draw, size, arguments in (
        (class_figures.confusion, (6.4, 5.4), (np.eye(7, dtype=int), [3, 2, 2], names)),
        (class_figures.classes, (9.0, 3.2), (np.full(7, 50.0), None, of_phase, names)),
    ):
        with drawing.sketch(*size) as sketch:
            draw(sketch, *arguments)
            sketch.figure.draw_without_rendering()
            axes = sketch.figure.axes[0]
            labels = [label.get_text() for label in axes.get_xticklabels()]
            beyond = min(label.get_window_extent().y0 for label in axes.get_xticklabels())
        assert beyond >= 0
        assert axes.bbox.height > 0.25 * sketch.figure.bbox.height
        assert len(set(labels)) == 7
        assert labels[6].endswith("in winter 6")


@pytest.mark.parametrize("phases", [1, 2, 3])
def test_each_kind_of_class_is_named_once(phases):
    of_phase = np.repeat(np.arange(phases), 3)
    with drawing.sketch(9.0, 3.2) as sketch:
        class_figures.classes(sketch, np.full(3 * phases, 50.0), None, of_phase, [str(each) for each in of_phase])
        texts = [text.get_text() for text in sketch.figure.axes[0].get_legend().get_texts()]
    assert texts == ["old classes, at the end", "new classes, at the end"][-min(phases, 2) :]


def test_names_on_a_page_are_text(full):
    text = (full / "report/index.html").read_text(encoding="utf-8")
    page = _Reader(text)
    assert page.tags.count("script") == 1
    assert "i" not in page.tags
    assert not [attributes for attributes in page.attributes if attributes.get("src") == "x"]
    assert all(name in page.words or name in str(page.attributes) for name in NAMES)
    assert "7000021" not in text  # what a template in a name comes to


def test_page_needs_nothing_from_elsewhere(full):
    page = _read(full / "report/index.html")
    addresses = [
        value
        for attributes in page.attributes
        for key, value in attributes.items()
        if key in ("src", "href", "xlink:href", "srcset", "data", "action")
    ]
    kinds = {re.match(r"(data:|#|figures/)?", address)[0] for address in addresses}
    assert kinds == {"data:", "#", "figures/"}
    files = {address for address in addresses if address.startswith("figures/")}
    assert all((full / "report" / name).stat().st_size > 500 for name in files)
    style = "".join(page.text)
    assert "url(" not in style
    assert "@import" not in style


def test_ids_of_a_page_are_unique(full):
    ids = [attributes["id"] for attributes in _read(full / "report/index.html").attributes if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_figures_and_tables_are_files_too(full):
    figures = full / "report/figures"
    names = {path.stem for path in figures.iterdir()}
    assert {"accuracy", "old_and_new", "phase_by_group", "confusion", "classes", "distances_learned", "losses"} <= names
    for name in names:
        assert (figures / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (figures / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        ElementTree.parse(figures / f"{name}.svg")
    assert {path.name for path in (full / "report/tables").iterdir()} == {"phases.md", "phases.csv", "phases.tex"}


def test_gallery_shows_before_after_and_difference(full):
    page = _read(full / "report/index.html")
    pictures = [attributes["alt"] for attributes in page.attributes if attributes.get("src", "").startswith("data:")]
    # A class of phase 0 was learned without any change, and was changed by 2 grey levels in the end.
    assert [each for each in pictures if each.startswith(NAMES[1])] == [
        f"{NAMES[1]}, {moment}" for moment in ("before", "kept", "in the end", "in the end, difference")
    ]
    # Those of the last phase are in the end what they were learned to be.
    assert [each for each in pictures if each.startswith(NAMES[5])] == [
        f"{NAMES[5]}, {moment}" for moment in ("before", "kept", "kept, difference")
    ]


def test_run_that_is_still_going_has_a_page_that_says_so(call, tmp_path):
    run = write_full_run(tmp_path / "run", num_complete=2)
    code, shown, errors = call(run, "--no_tsne")
    assert (code, errors) == (0, "")
    assert shown == f"Left out, for they are not finished: {run} (2 of 3 phases).\n\npage  {run}/report/index.html\n"
    assert "This run is not finished: 2 of 3 phases are complete." in _read(run / "report/index.html").words


def test_run_of_an_earlier_version_has_a_page_with_sentences_for_what_it_lacks(call, tmp_path):
    run = write_run(tmp_path / "run")
    code, _, errors = call(run)
    assert (code, errors) == (0, "")
    words = _read(run / "report/index.html").words
    for sentence in (
        "The run has no files for TensorBoard",
        "which counted no bytes",
        "The run has no exemplars.npz in phase 5.",
        "The run has no saved_model in phase 5, by which features are found.",
        "The run has no exemplars.npz in phase 0.",
    ):
        assert sentence in words
    assert "The paper has an average of 63.34 % for this row (Table 1): this run is 3.34 points below." in words


def test_command_that_repeats_a_run_names_the_modules_that_it_imports(full, tmp_path):
    record = read_record(str(full))
    config = "import stripes\nfrom waves.two import sea\nimport mnemonics_tf.methods.lucir\n" + record.run.config
    imported = dataclasses.replace(record, run=dataclasses.replace(record.run, config=config))
    text, command, _ = RunPage(imported, str(tmp_path), False)._configuration()
    assert command.text.endswith("-again' --gin_import=stripes --gin_import=waves.two")
    assert "from where Python finds stripes and waves.two, repeat it" in text.text
    assert RunPage(record, str(tmp_path), False)._configuration()[1].text.endswith("-again'")


def test_files_of_a_run_that_are_damaged_are_named(full, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(full, run, ignore=shutil.ignore_patterns("report"))
    for name in ("exemplars.npz", "confusion.npz"):
        for path in run.glob(f"phases/*/{name}"):
            path.write_bytes(path.read_bytes()[:200])
    (run / "tensorboard/events.out.tfevents.1.phase000").write_bytes(b"\x05\0\0\0\0\0\0\0abcdefghijklm")
    site.write_run_page(str(run), str(run / "report"), looks_at_data=False)
    words = _read(run / "report/index.html").words
    assert f"{run}/phases/002/exemplars.npz is damaged" in words
    assert "hold no losses" in words
    assert "--no_tsne" in words


def test_network_of_another_run_and_one_that_is_damaged_are_told(full, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(full, run, ignore=shutil.ignore_patterns("report"))
    for phase, size in ((0, 16), (1, 9)):  # the run's images are 16 x 16

        @tf.function(input_signature=[tf.TensorSpec([None, size, size, 3], tf.uint8)])
        def serve(images):
            return {
                "class_ids": tf.zeros(tf.shape(images)[:1], tf.int64),
                "embeddings": tf.cast(images[:, 0, 0], "float32"),
            }

        model = tf.Module()
        model.serve, model.weight = serve, tf.Variable([1.0])
        tf.saved_model.save(model, str(run / f"phases/{phase:03d}/saved_model"))
    record = read_record(str(run))
    images, _ = record.exemplars(0)
    np.testing.assert_array_equal(network_of(record, 0)(images)["embeddings"], images[:, 0, 0])
    with pytest.raises(MissingError, match="is not a network of the run"):
        network_of(record, 1)(images)
    (run / "phases/001/saved_model/variables/variables.data-00000-of-00001").write_bytes(b"x")
    with pytest.raises(MissingError, match="saved_model cannot be loaded"):
        network_of(record, 1)


def test_exemplars_of_another_run_are_told_and_those_of_two_channels_shown(full, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(full, run, ignore=shutil.ignore_patterns("report"))
    paths = [*run.glob("phases/*/exemplars.npz"), *run.glob("phases/*/starting_images.npz")]
    for path in paths:
        with np.load(path) as arrays:
            images, labels = arrays["images"][..., :2], arrays["labels"]
        np.savez(path, images=images, labels=labels)
    shown = galleries(read_record(str(run)))
    assert [each.kind for each in shown] == ["text", "gallery", "gallery", "gallery"]
    np.savez(paths[0], images=images[:, :8, :8], labels=labels)
    with pytest.raises(MissingError, match="as if of another run"):
        galleries(read_record(str(run)))


def test_several_runs_are_shown_beside_one_another(call, tmp_path):
    write_seeds(tmp_path / "ours", [60, 61, 62])
    write_seeds(tmp_path / "herding", [50, 52], exemplars="herding", adjust_exemplars=False)
    write_run(tmp_path / "digits", dataset="digits", phase_sizes=[5, 1, 1])
    write_run(tmp_path / "going", seed=7, num_complete=2)
    (write_run(tmp_path / "damaged", seed=8) / "results.json").write_text("{")
    code, shown, errors = call(tmp_path, f"--output_dir={tmp_path / 'out'}", "--no_tsne")
    assert (code, errors) == (0, "")
    assert shown.endswith(f"\npage  {tmp_path}/out/index.html\n")
    page = _read(tmp_path / "out/index.html")
    words = page.words
    assert "5 runs of 2 kinds. The highest average accuracy has lucir, w/ ours: 61.00 ± 2.48 % over 3 seeds." in words
    assert "Their 95 % intervals over seeds overlap" in words  # 51 ± 12.71
    assert "cifar100: 50 classes, then 5 phases of 10" in words
    assert "These runs do not all compare with one another: they have other data" in words
    assert f"{tmp_path}/going (2 of 6 phases) is not finished" in words
    assert f"{tmp_path}/damaged/results.json is damaged" in words
    tips = [attributes["data-tip"] for attributes in page.attributes if "data-tip" in attributes]
    assert "lucir, w/ ours, phase 3: 50.00 ± 0.00 % (3 seeds)" in tips
    tables = {path.name for path in (tmp_path / "out/tables").iterdir()}
    assert {"runs.csv", "runs.md", "runs.tex", "table_1.csv", "table_2.tex", "table_s1.md"} <= tables
    assert ",measured,61.00 ± 2.48," in (tmp_path / "out/tables/table_1.csv").read_text(encoding="utf-8")


def test_order_is_judged_seed_by_seed_where_seeds_are_the_same(tmp_path):
    def verdict_on(averages):
        for name, values in averages.items():
            write_seeds(tmp_path / name, values, **({} if name == "a" else WITHOUT_OURS))
        found = groups.group_seeds(runs.read_runs(runs.find_runs([str(tmp_path)])).finished)
        shutil.rmtree(tmp_path / "a")
        shutil.rmtree(tmp_path / "b")
        return " ".join(verdict(found))

    # Seeds differ by more than the two do, which differ by 1 in every pair.
    assert "Seed by seed the difference is 1.00 ± 0.00 points." in verdict_on({"a": [60, 65], "b": [59, 64]})
    said = verdict_on({"a": [60, 65], "b": [61, 62]})
    assert re.search(r"Seed by seed the difference is 1\.00 ± [\d.]+ points: their order is not settled", said)
    assert "overlap: their order is not settled" in verdict_on({"a": [60, 65, 62], "b": [61, 62]})


def test_data_of_one_name_and_other_classes_are_told_apart(call, tmp_path):
    for name, kinds in (("birds", ["heron", "kea", "owl"]), ("cars", ["van", "bus", "cab"])):
        run = write_run(tmp_path / name, dataset="images", phase_sizes=[2, 1])
        (run / "data.json").write_text(json.dumps({"class_names": kinds}))
    code, shown, _ = call(tmp_path, f"--output_dir={tmp_path / 'out'}", "--no_tsne")
    assert code == 0
    assert "images (1: heron, kea, owl)" in shown
    page = _read(tmp_path / "out/index.html").words
    assert "images (2: van, bus, cab): 2 classes, then 1 phases of 1" in page
    assert "These runs do not all compare with one another" in page


def test_set_of_one_run_and_one_without_finished_runs_have_pages(call, tmp_path):
    write_run(tmp_path / "one/run")
    assert call(tmp_path / "one", f"--output_dir={tmp_path / 'a'}", "--no_tsne")[0] == 0
    words = _read(tmp_path / "a/index.html").words
    assert "1 run of 1 kind. Its average accuracy is 60.00 % with one seed." in words
    assert "There is one seed of each" in words
    write_run(tmp_path / "two/run", num_complete=1)
    assert call(tmp_path / "two", f"--output_dir={tmp_path / 'b'}", "--no_tsne")[0] == 0
    page = _read(tmp_path / "a/index.html")
    assert f"python -m mnemonics_tf.report {tmp_path}/one --output_dir={tmp_path}/a --no_tsne" in page.words
    assert "No run is finished yet" in _read(tmp_path / "b/index.html").words


def test_without_the_packages_there_is_a_line_and_the_text(call, tmp_path, monkeypatch):
    run = write_run(tmp_path / "run")
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matplotlib" else found(name))
    code, shown, errors = call(run)
    assert code == 0
    assert "w/ ours" in shown
    assert errors == (
        "mnemonics_tf: No page was written: matplotlib is not installed. Install what it needs by: "
        "pip install 'mnemonics_tf[report]'\n"
    )
    assert not (run / "report").exists()


def test_page_that_cannot_be_written_is_one_line(call, tmp_path):
    run = write_run(tmp_path / "run")
    (run / "report").write_text("in the way")
    code, shown, errors = call(run)
    assert (code, errors.count("\n")) == (2, 1)
    assert "w/ ours" in shown
    assert f"{run}/report: the page cannot be written there" in errors


def test_curves_are_read_as_far_as_a_file_goes(full):
    found = curves.read_curves(str(full))
    assert curves.of_stage(found, "train_model", "")[0] == pytest.approx({1: 2.0, 2: 1.0, 3: 2 / 3})  # no rates in it
    assert curves.of_stage(found, "learn_exemplars", "meta_loss")[2] == pytest.approx({1: 1.5, 2: 1.0, 3: 1 / 3 + 0.5})
    assert curves.at_phases(found, "peak_mebibytes") == {"train_model": {0: 512.0, 1: 513.0, 2: 514.0}}
