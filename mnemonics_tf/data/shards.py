"""Sorts the images of a TFDS data set by class ahead of a run: `python -m mnemonics_tf.data.shards NAME`.

A run whose images are not held in memory does it by itself; on a cluster it is better done once, before the jobs.
Exit code 0: the files are there and complete; 2: they cannot be made.
"""

from __future__ import annotations

import functools
import sys

from absl import app, flags

from mnemonics_tf.system import screen, stopping

# TensorFlow takes seconds to import, and --help needs none of it: what uses it is imported once the flags are known.
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "tfds.data_dir of the run: where TFDS keeps its data. Default: TFDS_DATA_DIR, or TFDS's own."
)
_SHARDS_DIR = flags.DEFINE_string(
    "shards_dir", None, "tfds.shards_dir of the run: where the files go. Default: class_shards among the data of TFDS."
)
_NUM_CLASSES_DRAWN = flags.DEFINE_integer(
    "num_classes_drawn", None, "tfds.num_classes_drawn of the run: classes to draw by chance. Default: all of them."
)
_DRAW_SEED = flags.DEFINE_integer("draw_seed", 1993, "tfds.draw_seed of the run: seed of the draw.")


def main(argv: list[str]) -> int:
    """Builds what is missing and prints what is there. Returns the exit code."""
    from mnemonics_tf import checks

    try:
        if len(argv) != 2:
            what = f"Unexpected argument {argv[2]!r}: expected" if len(argv) > 2 else "No NAME was given. Give"
            raise checks.UsageError(f"{what} one data set, such as python -m mnemonics_tf.data.shards imagenet2012.")
        with screen.quiet():
            from mnemonics_tf.data import catalogue, class_files, framing, prepared, sharding
        framing.check_draw(_NUM_CLASSES_DRAWN.value, _DRAW_SEED.value)
        builder = prepared.prepared_builder(argv[1], _DATA_DIR.value)
        features = catalogue.classification(builder)
        kept = prepared.kept_classes(features.label.names, _NUM_CLASSES_DRAWN.value, _DRAW_SEED.value)
        splits = [split for split in catalogue.splits(builder, features) if split]
        folders = class_files.split_folders(builder, splits, _SHARDS_DIR.value)
        sharding.build(builder, folders, kept)
        for folder in folders:
            count = len(folder.open(kept, image_size=1, resized_side=None))  # as a run does, of whatever size
            files = folder.complete()
            size = f"{sum(files[class_id].num_bytes for class_id in kept.tolist()) / 1e9:.3f} GB"
            print(f"{folder.split:<11} {count:,} images of {len(kept):,} classes, {size}, in {folder.path}")
    except checks.UsageError as error:
        if flags.FLAGS["verbosity"].present:
            raise
        print(f"mnemonics_tf: {error}", file=sys.stderr)
        return screen.USAGE_ERROR
    return 0


if __name__ == "__main__":
    stopping.end_in_one_line("mnemonics_tf", "The same command goes on from there.")
    app.run(main, flags_parser=functools.partial(screen.parse_flags, "mnemonics_tf"))
