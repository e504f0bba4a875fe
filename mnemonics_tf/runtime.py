"""Replicas and workers: how they share batches and add up what they found. Strategies are made in `system.devices`.

A *replica* is a device with its copy of the network; a *worker* is a process that feeds one replica or several.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from mnemonics_tf import checks
from mnemonics_tf.system.lazy import keras, tf


def worker_index(strategy: tf.distribute.Strategy) -> int:
    """The index of this process among the workers, from 0; 0 where it works alone."""
    return strategy.cluster_resolver.task_id if _has_workers(strategy) else 0


def num_workers(strategy: tf.distribute.Strategy) -> int:
    """The number of processes that train together; 1 where this one works alone."""
    return strategy.cluster_resolver.cluster_spec().num_tasks("worker") if _has_workers(strategy) else 1


def _has_workers(strategy: tf.distribute.Strategy) -> bool:
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is worker 0, the one that writes to disk."""
    return worker_index(strategy) == 0


# What TensorFlow raises in the others when a worker is gone, and what it then says. A worker's own failures do not.
_LOST_WORKER = ("UnavailableError", "AbortedError", "CancelledError", "InternalError")
_SIGNS = ("/task:", "Collective ops is aborted")


@contextlib.contextmanager
def explaining_lost_workers(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """A context that turns TensorFlow's errors into a `LostWorkerError` where another worker has gone.

    Errors that do not speak of another worker, and all errors of a process that works alone, pass unchanged.

    Args:
      strategy: whose workers train together.

    Raises:
      LostWorkerError: another worker has ended or cannot be reached any more.
    """
    try:
        yield
    except tuple(getattr(tf.errors, name) for name in _LOST_WORKER) as error:
        if num_workers(strategy) == 1 or not any(sign in str(error) for sign in _SIGNS):
            raise
        reason = next((line.strip(" :") for line in str(error).splitlines() if "/task:" in line), type(error).__name__)
        raise checks.LostWorkerError(
            f"Worker {worker_index(strategy)} stops: another worker has ended or cannot be reached any more "
            f"({reason}). See that worker's own output for the cause. Start all workers again with the same command: "
            "the run goes on from the last snapshot."
        ) from error


def barrier(strategy: tf.distribute.Strategy) -> None:
    """Waits until all workers have called this; returns at once where one works alone."""
    sum_over_workers(strategy, [np.zeros(1, np.float32)])


def by_the_first(strategy: tf.distribute.Strategy, write: Callable[[], object]) -> None:
    """Lets the first worker write what all would write alike, while the others wait until it is there.

    Args:
      strategy: whose workers call this, all of them.
      write: is called by the first one alone; what it raises, that worker raises.

    Raises:
      UsageError: in the other workers, if the first one could not write.
      LostWorkerError: another worker has ended.
    """
    failure: Exception | None = None
    with explaining_lost_workers(strategy):
        if is_chief(strategy):
            try:
                write()
            except Exception as error:
                failure = error
        (failures,) = sum_over_workers(strategy, [np.array([failure is not None], np.float32)])
    if failure is not None:
        raise failure
    if failures[0]:
        raise checks.UsageError("The first worker could not write what all of them share: its own output says why.")


def is_common(strategy: tf.distribute.Strategy, number: int) -> bool:
    """Whether this worker's number equals the mean of all workers' numbers.

    If all have the same number, every worker gets True; if not, at least one gets False. All workers must call it.

    Args:
      strategy: whose workers are asked.
      number: a whole number from 0 up to, but not including, 2^32, such as a checksum.
    """
    halves = np.array([number & 0xFFFF, number >> 16], np.float32)  # float32 holds their sums exactly
    (total,) = sum_over_workers(strategy, [halves])
    return bool(np.array_equal(total, halves * num_workers(strategy)))


class Agreement:
    """Decisions of workers that must come to the same (`system.snapshots.Workers`).

    Args:
      strategy: theirs.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        self._strategy, self._total = strategy, _total_of(strategy)  # which is traced once: it is called often

    def any(self, flag: bool) -> bool:
        """Whether the flag of any worker is True. All must call it."""
        (total,) = _summed(self._strategy, self._total, [np.array([flag], np.float32)])
        return bool(total[0] > 0)

    def is_common(self, number: int) -> bool:
        """Whether every worker has the same number, from 0 up to 2^32; the same answer for all. All must call it."""
        common = is_common(self._strategy, number)
        return not self.any(not common)


def agreement(strategy: tf.distribute.Strategy) -> Agreement | None:
    """How the strategy's workers agree; None where one works alone."""
    return Agreement(strategy) if num_workers(strategy) > 1 else None


def sum_over_workers(strategy: tf.distribute.Strategy, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Adds each array up over all workers, element by element. All workers must call it.

    Args:
      strategy: the one whose workers add up.
      arrays: of numbers, of the same shapes and dtypes on every worker.

    Returns:
      The sums, the same on every worker; `arrays` themselves where one works alone.
    """
    return arrays if num_workers(strategy) == 1 else _summed(strategy, _total_of(strategy), arrays)


def _total_of(strategy: tf.distribute.Strategy) -> Callable[[Any], Any]:
    """Adds a value of each replica up, compiled."""

    @tf.function(autograph=False)
    def total(value: Any) -> tf.Tensor:
        return strategy.run(lambda own: sum_over_replicas([own])[0], args=(value,))

    return total


def _summed(
    strategy: tf.distribute.Strategy, total: Callable[[Any], Any], arrays: list[np.ndarray]
) -> list[np.ndarray]:
    # One of this worker's replicas brings its share, the others nothing.
    others = strategy.num_replicas_in_sync // num_workers(strategy) - 1
    return [
        local_values(strategy, total(_on_own_replicas(strategy, [array, *[np.zeros_like(array)] * others])))[0].numpy()
        for array in arrays
    ]


def _on_own_replicas(strategy: tf.distribute.Strategy, values: list[np.ndarray]) -> Any:
    """A value for each replica of this process."""
    first = share_of(strategy).first
    return strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(values[context.replica_id_in_sync_group - first])
    )


@dataclasses.dataclass(frozen=True)
class Share:
    """The replicas that one process feeds. The defaults are those of a process that feeds the only one.

    Attributes:
      num_replicas: number of replicas of all processes together.
      first: index among them of the first one that this process feeds.
      count: how many this process feeds: those from `first` to `first + count - 1`.
    """

    num_replicas: int = 1
    first: int = 0
    count: int = 1


ONE_REPLICA = Share()


def share_of(strategy: tf.distribute.Strategy) -> Share:
    """The replicas of `strategy` that this process feeds; every worker has equally many."""
    count = strategy.num_replicas_in_sync // num_workers(strategy)
    return Share(strategy.num_replicas_in_sync, worker_index(strategy) * count, count)


def untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The dataset, whose pipeline is not tuned while it runs.

    TensorFlow's thread for that misses one in five of the calls to end, and whoever lets go of the iterator then waits
    for it, up to a minute at the end of a long pass.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def distribute(
    strategy: tf.distribute.Strategy, make: Callable[[Share], tf.data.Dataset]
) -> tf.data.Dataset | tf.distribute.DistributedDataset:
    """Feeds each replica with its own elements, prefetched to its device. Pipelines are `untuned`.

    Args:
      strategy: the one whose replicas are fed.
      make: takes the share of this process and returns a dataset whose elements are for its replicas in turn.
    """

    def own(_: tf.distribute.InputContext | None = None) -> tf.data.Dataset:
        return untuned(make(share_of(strategy)))

    is_alone = isinstance(strategy, tf.distribute.MirroredStrategy) and strategy.num_replicas_in_sync == 1
    if is_alone and device_kind(strategy) == "CPU":
        # Nothing has to be brought to another device; distribution would add an iterator of its own, which is tuned.
        return own()
    return strategy.distribute_datasets_from_function(own)


def local_values(strategy: tf.distribute.Strategy, value: Any) -> list[Any]:
    """The values that the replicas of this process have, in their order.

    Args:
      strategy: whose replicas were run.
      value: what `strategy.run` returned: a value per replica, or a tuple of such.

    Returns:
      A tensor for each replica of this process; a tuple of tensors for each, if `value` is a tuple.
    """
    if isinstance(value, tuple):
        return list(zip(*(strategy.experimental_local_results(each) for each in value), strict=True))
    return list(strategy.experimental_local_results(value))


def device_kind(strategy: tf.distribute.Strategy) -> str:
    """The kind of device that the strategy's replicas run on: `GPU` or `CPU`."""
    return tf.DeviceSpec.from_string(strategy.extended.worker_devices[0]).device_type


def global_mean(values: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
    """This replica's share of the mean over the examples of all replicas: the shares add up to the mean.

    It is (sum of this replica's values) / (number of examples of all replicas), a scalar. Keras optimizers add
    gradients up over replicas, so losses made of such shares train alike on any number of them.

    Args:
      values: a value per example, `[B]`.
      mask: which examples count, `[B]` bool; None for all. If none counts, the result is zero.
    """
    weights = tf.ones_like(values) if mask is None else tf.cast(mask, values.dtype)
    count = tf.reduce_sum(weights)
    context = tf.distribute.get_replica_context()
    if context is not None and context.num_replicas_in_sync > 1:
        count = context.all_reduce(tf.distribute.ReduceOp.SUM, count)
    return tf.math.divide_no_nan(tf.reduce_sum(tf.where(weights > 0, values, tf.zeros_like(values))), count)


def average_over_replicas(strategy: tf.distribute.Strategy, variables: list[keras.Variable]) -> None:
    """Gives every replica the mean of what the replicas have, for each variable of floats.

    It is meant for statistics that each replica has moved by its own batches. `FusedBatchNormalization` moves them by
    the batches of all, so there the mean changes nothing.

    Args:
      strategy: whose replicas hold the variables.
      variables: any variables; those that are not floats are left as they are.
    """
    if strategy.num_replicas_in_sync == 1:
        return
    for variable in variables:
        if variable.dtype.startswith("float"):
            variable.assign(strategy.reduce(tf.distribute.ReduceOp.MEAN, variable.value, axis=None))


def num_replicas() -> int:
    """The number of replicas that train together, seen from inside `strategy.run` or a strategy's scope."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def sum_over_replicas(tensors: list[tf.Tensor]) -> list[tf.Tensor]:
    """Adds each tensor up over the replicas that run together. All of them must call it, inside `strategy.run`.

    Returns:
      The sums, the same on every replica; the tensors as they are where one runs alone.
    """
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return list(tensors)
    # Several workers reduce nothing that is not on a device, as the arguments of a function are.
    return list(context.all_reduce(tf.distribute.ReduceOp.SUM, [tf.identity(tensor) for tensor in tensors]))


def split(indices: np.ndarray, strategy: tf.distribute.Strategy) -> list[np.ndarray]:
    """Splits the positions of a batch in consecutive parts, one a replica, whose sizes differ by one at most.

    Args:
      indices: positions of the batch's examples, `[B]`.
      strategy: the one whose replicas share the batch.

    Raises:
      UsageError: there are fewer positions than replicas.
    """
    count = strategy.num_replicas_in_sync
    if len(indices) < count:
        raise checks.UsageError(
            f"A batch of {len(indices)} cannot be split among {count} devices. Make fewer of them visible, or the "
            "batch larger."
        )
    return np.array_split(indices, count)


def concatenated(strategy: tf.distribute.Strategy, rows: Any) -> tf.Tensor:
    """Joins the rows of all replicas, those of other workers included, one replica after the other.

    Args:
      strategy: whose replicas have the rows.
      rows: a tensor per replica, as `strategy.run` returns it; their numbers of rows may differ.

    Returns:
      One tensor with all rows.
    """
    if num_workers(strategy) > 1:
        return strategy.gather(rows, axis=0)
    return tf.concat(strategy.experimental_local_results(rows), axis=0)


def on_each_replica(strategy: tf.distribute.Strategy, values: list[tf.Tensor]) -> Any:
    """Makes one argument of `strategy.run` of the values that its replicas shall have.

    Args:
      strategy: the one whose replicas are given values.
      values: a tensor for each replica of all workers, in their order.
    """
    if len(values) == 1:
        return values[0]
    return strategy.experimental_distribute_values_from_function(
        lambda context: values[context.replica_id_in_sync_group]
    )
