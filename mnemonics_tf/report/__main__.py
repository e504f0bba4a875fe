"""Tables and a page of runs, over seeds, beside the paper's: `python -m mnemonics_tf.report RUN_DIR...`.

A RUN_DIR is the folder of a run, or one with runs anywhere below it. If one run is named, RUN_DIR/report/index.html is
all that there is to see of it, whether it is finished or not; with --output_dir, several runs are shown beside one
another on a page in that folder.
"""

import functools
import os
import sys
from typing import TYPE_CHECKING

from absl import app, flags

from mnemonics_tf.system import screen, stopping

if TYPE_CHECKING:
    from mnemonics_tf.report.collection import Collection

# SciPy takes a second to import, and --help needs none of it: what uses it is imported once the flags are known.

_ALL = "all"

_TABLES = flags.DEFINE_list(
    "tables", None, "Tables of the paper to show: 1, 2, S1, S2 or all. Default: those in which a run has a place."
)
# `mnemonics_tf.main` has a flag of this name, and a process that imports both modules may call either.
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir",
    None,
    "Folder of the page, its figures and tables. Default: RUN_DIR/report if one run is named.",
    allow_override=True,
)
_NO_TSNE = flags.DEFINE_bool("no_tsne", False, "Load neither data nor networks: the page goes without t-SNE.")


def main(argv: list[str]) -> int:
    """Prints the tables of the folders in `argv[1:]` and writes their page. Returns the exit code, 0 or 2."""
    from mnemonics_tf.checks import UsageError

    try:
        folders = argv[1:]
        found = _collected(folders, _TABLES.value)
        screen.say(found.text(_TABLES.value, _ALL))
        if folders:
            _write_page(found, folders)
    except UsageError as error:
        if flags.FLAGS["verbosity"].present:
            raise
        print(f"mnemonics_tf: {screen.shown(str(error))}", file=sys.stderr)
        return screen.USAGE_ERROR
    return 0


def _collected(folders: list[str], chosen: list[str] | None) -> "Collection":
    """The runs in the folders.

    Raises:
      UsageError: there is nothing to show, there is no such folder or table, a run that was named cannot be read, or
        two runs contradict each other.
    """
    from mnemonics_tf import checks
    from mnemonics_tf.report import collection, paper

    for name in chosen or []:
        checks.check_choice("--tables", name, [*paper.tables(), _ALL])
    if not folders and not chosen:
        raise checks.UsageError("No RUN_DIR was given. Try runs, or --tables=all for the paper's figures alone.")
    if _OUTPUT_DIR.value is not None:
        if not _OUTPUT_DIR.value:
            raise checks.UsageError("--output_dir is empty: expected a folder.")
        if not folders:
            raise checks.UsageError(
                f"--output_dir = {_OUTPUT_DIR.value}: without a RUN_DIR there is no page to be written. Name a run, or "
                "leave it out."
            )
    return collection.collect(folders)


def _write_page(found: "Collection", folders: list[str]) -> None:
    """Writes the page of the one run that was named, or of all if there is a folder to write it to; says where it is.

    Raises:
      UsageError: it cannot be written.
    """
    from mnemonics_tf.report.page import site

    one_run = _one_run(found, folders)
    output_dir = os.path.expanduser(_OUTPUT_DIR.value) if _OUTPUT_DIR.value else None
    if output_dir is None and one_run is None:
        return
    missing = site.missing_packages()
    if missing:
        screen.notice(f"mnemonics_tf: {missing}")
        return
    looks_at_data = not _NO_TSNE.value
    if one_run is not None:
        path = site.write_run_page(one_run, output_dir or os.path.join(one_run, "report"), looks_at_data)
    else:
        options = [f"--tables={','.join(_TABLES.value)}"] if _TABLES.value else []
        options += ["--no_tsne"] if _NO_TSNE.value else []
        tables = found.grids(_TABLES.value, _ALL)
        path = site.write_set_page(found, folders, str(output_dir), tables, looks_at_data, options)
    screen.say(f"\npage  {screen.shown(path)}")


def _one_run(found: "Collection", folders: list[str]) -> str | None:
    """The folder of a run if it is all that was named; None for several runs, and for a folder with runs below it."""
    named = {os.path.realpath(os.path.expanduser(each)) for each in folders}
    only = found.folders[0]
    return only if len(found.folders) == 1 and named == {os.path.realpath(only)} else None


if __name__ == "__main__":
    stopping.end_in_one_line("mnemonics_tf")
    app.run(main, flags_parser=functools.partial(screen.parse_flags, "mnemonics_tf"))
