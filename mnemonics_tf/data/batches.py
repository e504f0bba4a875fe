"""How many batches and images an epoch has."""

from __future__ import annotations

from mnemonics_tf import checks


def images_per_epoch(count: int, batch_size: int, num_replicas: int) -> int:
    """Images that an epoch uses of `count`: all, or all but a last batch that would leave a replica without any.

    Batch norm cannot do with none.

    Raises:
      UsageError: not even one batch can be split among the replicas.
    """
    rest = count % batch_size
    used = count - rest if rest < num_replicas else count
    if not used or batch_size < num_replicas:
        raise checks.UsageError(
            f"{count} training images in batches of {batch_size} cannot be split among {num_replicas} devices. Make "
            "fewer of them visible, or the batch larger."
        )
    return used


def num_batches(count: int, batch_size: int) -> int:
    """Batches in one pass over `count` images."""
    return -(-count // batch_size)
