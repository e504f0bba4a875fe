"""Devices, seeds and reductions over replicas: the one place that knows tf.distribute."""

from __future__ import annotations

import zlib
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mnemonics_tf import checks


def create_strategy() -> tf.distribute.Strategy:
    """`MirroredStrategy` over all visible GPUs, or over all logical CPU devices where there is no GPU."""
    kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
    names = [device.name for device in tf.config.list_logical_devices(kind)]
    return tf.distribute.MirroredStrategy(names)


def device_kind(strategy: tf.distribute.Strategy) -> str:
    """`GPU` or `CPU`: what the strategy's replicas run on."""
    return tf.DeviceSpec.from_string(strategy.extended.worker_devices[0]).device_type


def make_deterministic() -> None:
    """Makes TensorFlow's operations give the same bits in every run of this process's machine, for good."""
    tf.config.experimental.enable_op_determinism()


def seed_initial_weights(seed: int) -> None:
    """Seeds Python, NumPy and TensorFlow, from which Keras draws initial weights."""
    keras.utils.set_random_seed(seed)


def stage_seed(seed: int, *names: str | int) -> int:
    """A seed of its own for each stage, the same in every process: `stage_seed(run_seed, phase, "herding")`."""
    return zlib.crc32(":".join(map(str, (seed, *names))).encode()) & 0x7FFFFFFF


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """A NumPy generator seeded by `stage_seed`."""
    return np.random.default_rng(stage_seed(seed, *names))


def global_mean(values: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
    """Mean over the examples of all replicas, as this replica's share of it: the shares add up to the mean.

    Keras optimizers add gradients up over replicas, so losses made of such shares train alike on any number of them.

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
    """Gives all replicas the mean of their values: each has moved batch norm's statistics by its own batches."""
    if strategy.num_replicas_in_sync == 1:
        return
    for variable in variables:
        if variable.dtype.startswith("float"):
            variable.assign(strategy.reduce(tf.distribute.ReduceOp.MEAN, variable.value, axis=None))


def num_replicas() -> int:
    """Replicas that train together, seen from inside `strategy.run` or a strategy's scope."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def sum_over_replicas(tensors: list[tf.Tensor]) -> list[tf.Tensor]:
    """Each tensor added up over the replicas that run together; call it on a replica."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return list(tensors)
    return list(context.all_reduce(tf.distribute.ReduceOp.SUM, list(tensors)))


def split(indices: np.ndarray, strategy: tf.distribute.Strategy) -> list[np.ndarray]:
    """Splits the positions of a batch in consecutive parts of (nearly) equal size, one a replica.

    Raises:
      UsageError: a replica would get none.
    """
    count = strategy.num_replicas_in_sync
    if len(indices) < count:
        raise checks.UsageError(
            f"A batch of {len(indices)} cannot be split among {count} devices. Make fewer of them visible, or the "
            "batch larger."
        )
    return np.array_split(indices, count)


def on_each_replica(strategy: tf.distribute.Strategy, values: list[tf.Tensor]) -> Any:
    """One value for each replica, as `strategy.run` takes them."""
    if len(values) == 1:
        return values[0]
    return strategy.experimental_distribute_values_from_function(
        lambda context: values[context.replica_id_in_sync_group]
    )
