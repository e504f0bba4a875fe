"""Writes a page with all that it needs in one file, and figures and tables as files beside it."""

from __future__ import annotations

import contextlib
import importlib.resources
import importlib.util
import os
import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mnemonics_tf import __version__, checks
from mnemonics_tf.report import grids
from mnemonics_tf.report.grids import Grid
from mnemonics_tf.system import files, screen

if TYPE_CHECKING:
    from mnemonics_tf.report.collection import Collection
    from mnemonics_tf.report.page.blocks import Section

PAGE = "index.html"
_PACKAGES = {"jinja2": "Jinja2", "markupsafe": "MarkupSafe", "matplotlib": "matplotlib"}
_FORMS = {"md": grids.markdown, "csv": grids.comma_separated, "tex": grids.latex}


def missing_packages() -> str:
    """A line that says which packages a page lacks and how to install them; empty if all are there."""
    missing = [name for module, name in _PACKAGES.items() if importlib.util.find_spec(module) is None]
    if not missing:
        return ""
    listed = " and ".join(missing)
    return (
        f"No page was written: {listed} {'is' if len(missing) == 1 else 'are'} not installed. "
        "Install what it needs by: pip install 'mnemonics_tf[report]'"
    )


def write_run_page(folder: str, output_dir: str, looks_at_data: bool) -> str:
    """Writes the page of one run, finished or not.

    Args:
      folder: the run's folder.
      output_dir: where the page goes; made if need be.
      looks_at_data: whether data and networks are loaded, for t-SNE and for what the run has not written.

    Returns:
      The path of the page.

    Raises:
      UsageError: the run cannot be read, or the page cannot be written.
    """
    from mnemonics_tf.report.page.one_run import RunPage
    from mnemonics_tf.report.page.record import read_record

    record = read_record(folder)
    with _writing(output_dir) as figures:
        page = RunPage(record, figures, looks_at_data)
        subtitle = f"{record.results.method} on {record.results.dataset}"
        if not record.results.is_complete:
            subtitle += " (not finished)"
        return _write(output_dir, record.name, subtitle, page.sections(), page.grids())


def write_set_page(
    found: Collection,
    folders: Sequence[str],
    output_dir: str,
    tables: Sequence[Grid],
    looks_at_data: bool,
    options: Sequence[str] = (),
) -> str:
    """Writes the page of several runs beside one another.

    Args:
      found: the runs.
      folders: what the user has named.
      output_dir: where the page goes; made if need be.
      tables: tables of all runs.
      looks_at_data: whether data and networks are loaded, for t-SNE.
      options: flags of the command that makes this page, but for `--output_dir`.

    Returns:
      The path of the page.

    Raises:
      UsageError: the page cannot be written.
    """
    from mnemonics_tf.report.page.many_runs import SetPage
    from mnemonics_tf.report.page.record import record_of

    records = {run.folder: record_of(run) for group in found.groups for run in group.runs}
    with _writing(output_dir) as figures:
        page = SetPage(found.groups, records, found.left_out, tables, figures, looks_at_data)
        command = shlex.join(["python", "-m", "mnemonics_tf.report", *folders, f"--output_dir={output_dir}", *options])
        count = len(records)
        subtitle = f"{count} finished run{'' if count == 1 else 's'} beside one another"
        name = ", ".join(os.path.basename(os.path.abspath(os.path.expanduser(each))) for each in folders)
        return _write(output_dir, screen.shown(name), subtitle, page.sections(screen.shown(command)), tables)


@contextlib.contextmanager
def _writing(output_dir: str) -> Iterator[str]:
    """Hands out the folder of figures, in the page's folder; what cannot be written is an error of the user's."""
    try:
        figures = os.path.join(output_dir, "figures")
        for folder in (figures, os.path.join(output_dir, "tables")):
            os.makedirs(folder, exist_ok=True)
        yield figures
    except OSError as error:
        raise checks.UsageError(
            f"{screen.shown(output_dir)}: the page cannot be written there ({error.strerror or error}). Name another "
            "folder by --output_dir."
        ) from error


def _write(output_dir: str, title: str, subtitle: str, sections: Sequence[Section], tables: Sequence[Grid]) -> str:
    for grid in tables:
        for form, write in _FORMS.items():
            files.write_text(os.path.join(output_dir, "tables", f"{grid.name}.{form}"), write(grid))
    path = os.path.join(output_dir, PAGE)
    files.write_text(path, _rendered(title, subtitle, sections))
    return path


def _rendered(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    import jinja2
    from markupsafe import Markup

    parts = importlib.resources.files("mnemonics_tf.report.page")
    text = {name: (parts / f"page.{name}").read_text(encoding="utf-8") for name in ("html.j2", "css", "js")}
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    # Of what is put into the page, these two and the figures' markup are ours; all else is escaped.
    return environment.from_string(text["html.j2"]).render(
        title=title,
        subtitle=subtitle,
        sections=sections,
        css=Markup(text["css"]),
        script=Markup(text["js"]),
        version=__version__,
    )
