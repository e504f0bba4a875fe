"""Tables of runs, over seeds, beside the paper's: `python -m mnemonics_tf.report RUN_DIR...`.

A RUN_DIR is the folder of a run, or one with runs anywhere below it.
"""

import functools
import sys

from absl import app, flags

from mnemonics_tf.system import screen, stopping

# SciPy takes a second to import, and --help needs none of it: what uses it is imported once the flags are known.

_ALL = "all"

_TABLES = flags.DEFINE_list(
    "tables", None, "Tables of the paper to show: 1, 2, S1, S2 or all. Default: those in which a run has a place."
)


def main(argv: list[str]) -> int:
    """Prints the tables of the folders in `argv[1:]`. Returns the exit code, 0 or 2."""
    from mnemonics_tf.checks import UsageError

    try:
        print(report(argv[1:], _TABLES.value))
    except UsageError as error:
        if flags.FLAGS["verbosity"].present:
            raise
        print(f"mnemonics_tf: {screen.shown(str(error))}", file=sys.stderr)
        return screen.USAGE_ERROR
    return 0


def report(folders: list[str], chosen: list[str] | None) -> str:
    """All tables as text, with a line on each run that was left out.

    Args:
      folders: folders of runs, or folders with runs anywhere below them.
      chosen: names of the paper's tables to show (`1`, `2`, `S1`, `S2`), or `all`; None for those in which a run has a
        place.

    Raises:
      UsageError: there is nothing to show, there is no such folder or table, a run that was named cannot be read, or
        two runs contradict each other.
    """
    from mnemonics_tf import checks
    from mnemonics_tf.report import groups, labels, paper, runs, tables

    known = paper.tables()
    for name in chosen or []:
        checks.check_choice("--tables", name, [*known, _ALL])
    if not folders and not chosen:
        raise checks.UsageError("No RUN_DIR was given. Try runs, or --tables=all for the paper's figures alone.")
    read = runs.read_runs(runs.find_runs(folders), folders)
    kept, repeats = groups.leave_out_repeats(read.finished)
    found = groups.group_seeds(kept)
    variations = labels.variations(found)
    parts = [tables.general_table(found, variations)] if found else []
    if read.unfinished:
        parts.append(f"Left out, for they are not finished: {', '.join(read.unfinished)}.")
    if read.unreadable:
        parts.append("\n".join(["Left out, for they cannot be read:", *(f"  {line}" for line in read.unreadable)]))
    if repeats:
        parts.append("\n".join(["Left out, for another run counts:", *(f"  {line}" for line in repeats)]))
    for name, table in known.items():
        shown = any(table.cell(group.setup) for group in found) if chosen is None else {name, _ALL} & set(chosen)
        if shown:
            parts.append(tables.paper_table(table, found, variations))
    return "\n\n".join(parts)


if __name__ == "__main__":
    stopping.end_in_one_line("mnemonics_tf")
    app.run(main, flags_parser=functools.partial(screen.parse_flags, "mnemonics_tf"))
