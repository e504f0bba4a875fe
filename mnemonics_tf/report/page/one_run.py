"""The page of one run: its sections, from its files."""

from __future__ import annotations

import dataclasses
import functools
import re
import shlex
from collections.abc import Sequence
from typing import Any

import numpy as np

from mnemonics_tf.report import groups, paper, tables
from mnemonics_tf.report.grids import Grid
from mnemonics_tf.report.page import class_figures, curves, memory_figures, phase_figures
from mnemonics_tf.report.page.blocks import (
    Block,
    Listing,
    MissingError,
    Picture,
    Section,
    TableBlock,
    Text,
    present,
)
from mnemonics_tf.report.page.drawing import Draw, drawn
from mnemonics_tf.report.page.embedding import Embedded, confusion_by_network, embed
from mnemonics_tf.report.page.gallery import galleries
from mnemonics_tf.report.page.record import Record
from mnemonics_tf.report.page.words import movement, summary
from mnemonics_tf.system.gin_imports import Trusted

_LEARN, _ADJUST = "learn_exemplars", "adjust_exemplars"
_LEAST_SHARE = 0.001  # of all seconds, that a stage is shown with
_IMPORTED = re.compile(r"^(?:import|from) +([\w.]+)", re.MULTILINE)
_MOST_CONFUSIONS = 12  # phases that have a matrix each on the page


class RunPage:
    """What the page of a run is made of.

    Args:
      record: the run.
      figures: the folder that the figures' files are written to.
      looks_at_data: whether the run's data and networks are loaded, for t-SNE and for confusions that were not written.
    """

    def __init__(self, record: Record, figures: str, looks_at_data: bool):
        self._record, self._figures, self._looks_at_data = record, figures, looks_at_data
        self._curves = functools.cache(lambda: curves.read_curves(record.folder))

    def sections(self) -> list[Section]:
        """All sections, from top to bottom."""
        return [
            Section("summary", "What it came to", tuple(self._summary())),
            Section("accuracy", "Accuracy by phase", tuple(self._accuracy())),
            Section("old-and-new", "Old classes and new", tuple(self._old_and_new())),
            Section("confusion", "What is taken for what", tuple(present(self._confusions))),
            Section("classes", "Class by class", tuple(present(self._classes))),
            Section("memory", "What the memory holds", tuple(self._memory())),
            Section("features", "Exemplars among the data", tuple(present(self._features))),
            Section("optimisation", "How exemplars were learned", tuple(self._optimisation())),
            Section("time", "Time and memory by stage", tuple(self._resources())),
            Section("tables", "Tables", tuple(map(TableBlock, self.grids()))),
            Section("configuration", "Configuration", tuple(self._configuration())),
        ]

    def grids(self) -> list[Grid]:
        """The phases, and where the run is finished and has a place there, the paper's tables."""
        found = [_phase_grid(self._record)]
        if self._record.results.is_complete:
            alone = groups.group_seeds([self._record.run])
            found += [
                tables.paper_grid(table, alone, {})
                for table in paper.tables().values()
                if table.cell(self._record.run.setup)
            ]
        return found

    def _drawn(self, name: str, size: tuple[float, float], caption: str, draw: Draw, *arguments: Any) -> list[Block]:
        return drawn(name, size, caption, self._figures, draw, *arguments)

    def _summary(self) -> list[Block]:
        notes = [f"{note[0].upper()}{note[1:]}" for note in self._record.run.notes]
        return [*map(Text, summary(self._record)), *(Text(note, missing=True) for note in notes)]

    def _accuracy(self) -> list[Block]:
        results = self._record.results
        found = paper.figures_for(self._record.run.setup, "average_accuracy") if results.is_complete else []
        references = [(f"the paper's average, {name}", value) for name, value in found]
        caption = "Accuracy on the test images of all classes so far, after each phase."
        if references:
            caption += " The paper prints no figures for the ends of its curves: dashes at the right are averages."
        return self._drawn("accuracy", (7.5, 3.4), caption, phase_figures.accuracy, results, references)

    def _old_and_new(self) -> list[Block]:
        results = self._record.results
        if len(results.phases) == 1:
            return [Text("With one phase complete there are no old classes yet.", missing=True)]
        blocks = self._drawn(
            "old_and_new",
            (7.5, 3.4),
            "Accuracy on the classes that a phase brought, on all older ones, and on those of phase 0.",
            phase_figures.new_and_old,
            self._record,
        )
        side = min(7.0, 2.5 + 0.45 * len(results.phases))
        return blocks + self._drawn(
            "phase_by_group",
            (side + 0.8, side),
            "Accuracy on the classes of each phase (from left to right) after each phase (from top to bottom).",
            phase_figures.heat_map,
            results.phases,
            results.primary_classifier,
        )

    def _confusions(self) -> list[Block]:
        record, blocks = self._record, []
        shown = range(record.last + 1) if record.last < _MOST_CONFUSIONS else (0, record.last // 2, record.last)
        for phase in shown:
            try:
                counts = record.confusion(phase)[record.results.primary_classifier]
            except MissingError:
                continue
            except KeyError as error:
                raise MissingError(f"Phase {phase} has no confusions of the classifier {error}.") from error
            blocks += self._confusion(phase, counts)
        if blocks:
            return blocks
        counts = self._recomputed()
        note = Text(
            "The run has not written its confusions (an earlier version made it): these are of the last phase's saved "
            "network, computed for this page."
        )
        return [note, *self._confusion(None, counts)]

    def _confusion(self, phase: int | None, counts: np.ndarray) -> list[Block]:
        record, last = self._record, self._record.last
        after = last if phase is None else phase
        sizes = record.results.phase_sizes[: after + 1]
        name = "confusion" if after == last else f"confusion_{after:03d}"
        names = record.class_names[: len(counts)]
        caption = f"Confusions after phase {after}, classes in the order in which they arrived."
        folder = self._figures if after == last else None
        blocks = drawn(name, (6.4, 5.4), caption, folder, class_figures.confusion, counts, sizes, names)
        return [dataclasses.replace(each, phase=phase) if isinstance(each, Picture) else each for each in blocks]

    @functools.cache  # noqa: B019 -- the page is made once, and its object ends with it
    def _recomputed(self) -> np.ndarray:
        if not self._looks_at_data:
            raise MissingError(
                "The run has not written its confusions (an earlier version made it), and with --no_tsne no network is "
                "loaded to find them."
            )
        return confusion_by_network(self._record, self._record.last)

    def _classes(self) -> list[Block]:
        record, last = self._record, self._record.last
        name = record.results.primary_classifier
        try:
            at_end = class_figures.shares_correct(record.confusion(last)[name])
            arrival = [class_figures.shares_correct(record.confusion(phase)[name]) for phase in range(last + 1)]
        except (MissingError, KeyError):
            at_end, arrival = class_figures.shares_correct(self._recomputed()), None
        group_of = record.group_of[: len(at_end)]
        at_arrival = None if arrival is None else np.array([arrival[group][i] for i, group in enumerate(group_of)])
        names = record.class_names[: len(at_end)]
        blocks: list[Block] = []
        if at_arrival is not None and last:
            lost = at_arrival - at_end
            order = np.argsort(-lost)[:5]
            most = ", ".join(f"{names[index]} ({lost[index]:.0f} points)" for index in order if lost[index] > 0)
            blocks.append(
                Text(f"Most was forgotten of: {most}." if most else "No class is known less well than at first.")
            )
        caption = "Accuracy on the test images of each class."
        shown = (at_end, at_arrival, group_of, names)
        return [*blocks, *self._drawn("classes", (9.0, 3.2), caption, class_figures.classes, *shown)]

    def _memory(self) -> list[Block]:
        return [*present(self._bytes), *present(lambda: galleries(self._record))]

    def _bytes(self) -> list[Block]:
        results = self._record.results
        setting = self._record.run.setup.settings.get("ExemplarMemory.codec", "'raw'").strip("'\"")
        quality = self._record.run.setup.settings.get("ExemplarMemory.quality", "")
        last = results.phases[-1]
        if last.memory_bytes is None:
            raise MissingError("The run was made by an earlier version, which counted no bytes.")
        coded = f"codec {setting}" + (f", quality {quality}" if setting in ("webp", "jpeg") else "")
        parts: dict[str, dict[int, float]] = {}
        sentences = []
        if last.num_exemplars:
            parts["exemplars"] = {each.phase: each.memory_bytes or 0 for each in results.phases}
            least = last.exemplars_per_class
            of_each = f"{least}" if last.num_exemplars == least * last.num_classes else f"{least} or more"
            sentences.append(
                f"{last.num_exemplars} exemplars, {of_each} of each class, take "
                f"{last.memory_bytes:,} bytes in all and at most {last.bytes_per_class:,} for a class ({coded})."
            )
        if last.statistics_bytes:
            parts["the method's statistics"] = {each.phase: each.statistics_bytes for each in results.phases}
            sentences.append(f"The method keeps statistics of {last.statistics_bytes:,} bytes.")
        if not parts:
            raise MissingError("The run keeps nothing but the network.")
        text = " ".join(sentences)
        caption = "What the memory takes after each phase."
        return [Text(text), *self._drawn("memory_bytes", (7.0, 2.4), caption, memory_figures.sizes, parts)]

    def _features(self) -> list[Block]:
        if not self._looks_at_data:
            raise MissingError("Left out, as --no_tsne asks for.")
        record, rows = self._record, []
        for phase, when in dict.fromkeys([(0, "early phase"), (record.last, "late phase")]):
            if phase == 0 and when == "late phase":
                continue
            embedded = embed(record, phase)
            rows.append((f"{when} ({record.results.phases[phase].num_classes} classes)", _panels(record, embedded)))
        size = (1.0 + 3.4 * len(rows[0][1]), 0.5 + 3.2 * len(rows))
        caption = (
            "t-SNE of features by the network of each phase (Figures 1 and 5 of the paper). Pale: training images of "
            "the classes that are named; deep: their exemplars; a grey cross: the mean of each other class."
        )
        return self._drawn("tsne", size, caption, memory_figures.embeddings, rows)

    def _optimisation(self) -> list[Block]:
        blocks: list[Block] = [*map(Text, movement(self._record.results))]
        for stage, title in ((_LEARN, "learned"), (_ADJUST, "adjusted")):
            blocks += present(functools.partial(self._distances, stage, title))
        return blocks + present(self._losses)

    def _distances(self, stage: str, title: str) -> list[Block]:
        found = {name: curves.of_stage(self._curves(), stage, f"distance/{name}") for name in ("cosine", "euclidean")}
        if not all(found.values()):
            if not curves.of_stage(self._curves(), stage, "meta_loss"):
                raise MissingError(f"No exemplars were {title} in this run, or its curves were not written.")
            raise MissingError(
                f"How far exemplars moved while they were {title} is not known: an earlier version has made the run."
            )
        panels = [(f"{name} distance", "mean over exemplars", each) for name, each in found.items()]
        caption = (
            f"Distance between exemplars and what they began as, while they are {title} (Figure S2 of the supplement); "
            "pixels on the scale 0 to 1."
        )
        return self._drawn(f"distances_{title}", (9.0, 3.0), caption, memory_figures.over_epochs, panels)

    def _losses(self) -> list[Block]:
        trained: dict[int, curves.Curve] = {}
        for stage in ("train_model", "train_model_again"):  # the one that counts, where the first attempt diverged
            trained |= curves.of_stage(self._curves(), stage, "")
        found = (
            ("model level: sum of losses", trained),
            ("exemplar level: meta loss", curves.of_stage(self._curves(), _LEARN, "meta_loss")),
        )
        panels = [(title, "loss", each) for title, each in found if each]
        if not panels:
            raise MissingError("The run's files for TensorBoard hold no losses.")
        caption = "Losses of the levels on which the run has trained, epoch by epoch."
        return self._drawn("losses", (4.5 * len(panels), 3.0), caption, memory_figures.over_epochs, panels)

    def _resources(self) -> list[Block]:
        phases = self._record.results.phases
        stages = list(dict.fromkeys(name for each in phases for name in each.seconds))
        seconds = {name: {each.phase: each.seconds[name] for each in phases if name in each.seconds} for name in stages}
        total = sum(sum(each.seconds.values()) for each in phases)
        # What takes no time has no colour to itself.
        seconds = {name: values for name, values in seconds.items() if sum(values.values()) > _LEAST_SHARE * total}
        blocks: list[Block] = [Text(f"All phases together took {_duration(total)}.")]
        if phases[0].reused:
            blocks.append(Text("The network of phase 0 is that of an earlier run, and took no time here."))
        if seconds:
            shown = (seconds, "seconds", "s", True)
            caption = "Seconds of each stage, by phase."
            blocks += self._drawn("seconds", (8.5, 3.2), caption, phase_figures.stage_bars, *shown)
        return blocks + present(self._peaks)

    def _peaks(self) -> list[Block]:
        peaks = curves.at_phases(self._curves(), "peak_mebibytes")
        if not peaks:
            raise MissingError("How much memory each stage took is not known: an earlier version has made the run.")
        caption = "The most memory that the process had used by the end of each stage; it never falls within a process."
        shown = (peaks, "MiB", "MiB", False)
        return self._drawn("peak_memory", (8.5, 3.0), caption, phase_figures.stage_bars, *shown)

    def _configuration(self) -> Sequence[Block]:
        folder = self._record.folder
        config = shlex.quote(f"{folder}/config.gin")
        command = f"python -m mnemonics_tf.main --gin_file={config} --output_dir={shlex.quote(f'{folder}-again')}"
        modules = [name for name in _IMPORTED.findall(self._record.run.config) if not Trusted().names(name)]
        command += "".join(f" --gin_import={name}" for name in modules)
        version = self._record.results.package_version
        where = f", from where Python finds {' and '.join(modules)}," if modules else ""
        return [
            Text(f"The run was made by mnemonics_tf {version}. The same data and this command{where} repeat it:"),
            Listing(command),
            Listing(self._record.run.config, "The resolved configuration (config.gin)", folded=True),
        ]


def _panels(record: Record, embedded: Embedded) -> list[tuple[str, Embedded, str]]:
    if record.results.exemplars != "mnemonics":
        return [("exemplars", embedded, "kept")]
    if "start" not in embedded.exemplars:
        return [("learned exemplars", embedded, "kept")]
    return [("as chosen", embedded, "start"), ("learned", embedded, "kept")]


def _phase_grid(record: Record) -> Grid:
    results = record.results
    names = list(results.average_accuracy)
    learned = any("learned" in phase.movement for phase in results.phases)
    titles = [phase_figures.CLASSIFIERS.get(each, each) for each in names]
    moving = ("mean change", "still real (%)") if learned else ()
    rows = [("phase", "classes", *titles, "exemplars", "seconds", *moving)]
    for phase in results.phases:
        kept = "-" if phase.num_exemplars is None else str(phase.num_exemplars)
        figures = [f"{phase.accuracy[name]:.2f}" for name in names]
        moved = phase.movement.get("learned")
        if learned:
            moving = (f"{moved['mean']:.2f}", f"{moved['unmoved']:.1f}") if moved else ("-", "-")
        seconds = f"{sum(phase.seconds.values()):.0f}"
        rows.append((str(phase.phase), str(phase.num_classes), *figures, kept, seconds, *moving))
    for title, values in (("average", results.average_accuracy), ("forgetting", results.forgetting)):
        rows.append((title, "", *(f"{values[name]:.2f}" for name in names), "", "", *("" for _ in moving)))
    headings = (("", 2), ("accuracy (%)", len(names)), ("", 2), *([("learned exemplars", 2)] if learned else []))
    notes = ("Mean change of a pixel in grey levels; how many learning left as real images.",) if learned else ()
    return Grid("phases", f"Phases of {record.name}", headings, tuple(rows), notes)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
