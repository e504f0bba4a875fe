"""Small run folders, as `mnemonics_tf.main` would leave them: LUCIR w/ ours on CIFAR-100 with N = 5 unless told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from absl import flags
from absl.testing import flagsaver

from mnemonics_tf.report import __main__ as report_main

HALF_THEN_TENS = [50, 10, 10, 10, 10, 10]

DEFAULTS: dict[str, Any] = {
    "schema_version": 2,
    "package_version": "0.1.0",
    "dataset": "cifar100",
    "method": "lucir",
    "head": "cosine",
    "exemplars": "mnemonics",
    "adjust_exemplars": True,
    "budget": "per_class_20",
    "discard": "random",
    "weight_transfer": "per_neuron",
    "balanced_finetune": True,
    "distillation": True,
    "seed": 0,
    "order_seed": 1993,
    "phase_sizes": HALF_THEN_TENS,
    "primary_classifier": "cnn",
}

WITHOUT_OURS = {
    "exemplars": "herding",
    "adjust_exemplars": False,
    "weight_transfer": "none",
    "balanced_finetune": False,
}

# A few of the settings that config.gin has, by their names in results.json.
_SETTINGS = {
    "dataset": "tfds.name",
    "method": "Experiment.method",
    "exemplars": "ExemplarMemory.strategy",
    "adjust_exemplars": "ExemplarMemory.adjust",
    "budget": "ExemplarMemory.budget",
    "discard": "ExemplarMemory.discard",
    "weight_transfer": "ModelLevel.weight_transfer",
    "balanced_finetune": "BalancedFinetune.enabled",
    "distillation": "ModelLevel.distillation",
    "seed": "Experiment.seed",
    "primary_classifier": "Experiment.classifier",
}


def results_of(average=60.0, last=50.0, forgetting=10.0, nme_minus=2.0, **changes: Any) -> dict[str, Any]:
    """The content of a results.json.

    Args:
      average: average accuracy of the head, in percent.
      last: its accuracy after the last phase; earlier phases have the same.
      forgetting: its forgetting.
      nme_minus: how much lower each figure of the nearest mean is; None for a run without it.
      changes: of `DEFAULTS`.
    """
    results = {**DEFAULTS, **changes}
    sizes = results["phase_sizes"]

    def figures(cnn):
        return {"cnn": cnn} if nme_minus is None else {"cnn": cnn, "nme": cnn - nme_minus}

    results.setdefault("num_phases", len(sizes) - 1)
    results["class_order"] = list(range(sum(sizes)))
    results["phases"] = [
        {
            "phase": index,
            "num_classes": sum(sizes[: index + 1]),
            "accuracy": figures(last),
            "initial_classes_accuracy": figures(last),
            "group_accuracy": {name: [value] * (index + 1) for name, value in figures(last).items()},
            "exemplars_per_class": 20,
            "probe": {},
            "seconds": {"train": 1.5},
            "reused": False,
        }
        for index in range(len(sizes))
    ]
    return {**results, "average_accuracy": figures(average), "forgetting": figures(forgetting)}


def write_run(folder: Path, settings: dict[str, Any] | None = None, num_complete: int | None = None, **options) -> Path:
    """Writes a run's folder and returns it.

    Args:
      folder: made if need be.
      settings: further ones of config.gin.
      num_complete: phases that are complete; None for all.
      options: of `results_of`.
    """
    results = results_of(**options)
    results["phases"] = results["phases"][:num_complete]
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(results))
    values = {setting: results[name] for name, setting in _SETTINGS.items()}
    values |= {"Protocol.num_phases": results["num_phases"], **(settings or {})}
    lines = [f"{name} = {value!r}" for name, value in sorted(values.items())]
    (folder / "config.gin").write_text("\n".join(["# Parameters:", "# ====", *lines, ""]))
    return folder


def write_seeds(folder: Path, averages: list[float], **options) -> None:
    """Writes a run for each of `averages`, below `folder`."""
    for seed, average in enumerate(averages):
        write_run(folder / f"seed{seed}", seed=seed, average=average, **options)


def call_report(capsys: pytest.CaptureFixture, *arguments: Any) -> tuple[int, str, str]:
    """Calls the report's `main` in this process: returns its exit code, standard output and standard error."""
    with flagsaver.flagsaver():
        flags.FLAGS.unparse_flags()
        code = report_main.main(flags.FLAGS(["mnemonics_tf.report", *map(str, arguments)]))
    return code, *capsys.readouterr()
