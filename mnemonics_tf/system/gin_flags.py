"""The flag of commands that read gin files, of the user or of a run, or a learner: what they may import."""

from __future__ import annotations

from absl import flags

GIN_IMPORT = flags.DEFINE_multi_string(
    "gin_import",
    [],
    "A module that a configuration may import though it does not lie beside it, or with a learner's method.",
)
