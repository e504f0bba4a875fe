"""What was measured of each group, when and on which machine, as `benchmarks.json` keeps it.

A run of some groups replaces their parts and leaves the others as they were. `benchmarks.md` is made from all of them.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any

from harness.cases import Case, Heat
from harness.measured import Measured, Results

FORM = 2  # of the file; the first had one table of cases for everything


class NoRecord(Exception):  # noqa: N818
    """A file that cannot be gone on with; the text says why, and what to do."""


@dataclasses.dataclass
class Record:
    """One group's measurements.

    Attributes:
      facts: when and on what they were made, by names for people.
      quick: whether a few cases and rounds were enough.
      measured: the cases, in their order.
    """

    facts: dict[str, str]
    quick: bool
    measured: list[Measured]

    @property
    def results(self) -> Results:
        """The same, with the questions that tables ask."""
        return Results(self.measured)


def read(path: pathlib.Path) -> dict[str, Record]:
    """The groups of a file by their names; none if there is no file.

    Raises:
      NoRecord: it is damaged, or of another form.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise NoRecord(f"{path} cannot be read ({error}): move it away, or measure all groups.") from error
    if not isinstance(content, dict) or content.get("form") != FORM:
        raise NoRecord(f"{path} is no record of this version (form {FORM}): move it away, or measure all groups.")
    try:
        return {name: _record(group) for name, group in content["groups"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise NoRecord(f"{path} is damaged (at {error}): move it away, or measure all groups.") from error


def as_json(records: dict[str, Record], ratios: list[dict[str, Any]]) -> str:
    """The content of the file.

    Args:
      records: of every group that was ever measured there.
      ratios: the watched figures, for programs that read them.
    """
    groups = {
        name: {
            "facts": record.facts,
            "quick": record.quick,
            "heats": [_heat_json(title, record.results.of(title)) for title in record.results.heats],
        }
        for name, record in records.items()
    }
    return json.dumps({"form": FORM, "ratios": ratios, "groups": groups}, indent=1) + "\n"


def _heat_json(title: str, measured: list[Measured]) -> dict[str, Any]:
    heat = measured[0].heat
    facts = {"title": title, "inner_steps": heat.inner_steps, "batch_norm": heat.batch_norm}
    return {**facts, "cases": [_case_json(each) for each in measured]}


def _case_json(measured: Measured) -> dict[str, Any]:
    told = {field.name: getattr(measured, field.name) for field in dataclasses.fields(measured)}
    case, _ = told.pop("case"), told.pop("heat")
    # What a case is limited by is no result, and its defaults are those of the reader.
    return {"case": {key: value for key, value in vars(case).items() if key != "first_limit"}, **told}


def _record(group: dict[str, Any]) -> Record:
    measured = []
    for each in group["heats"]:
        heat = Heat(each["title"], 0, (), each["inner_steps"], each["batch_norm"])
        measured += [Measured(**{**told, "case": Case(**told["case"]), "heat": heat}) for told in each["cases"]]
    return Record(group["facts"], group["quick"], measured)
