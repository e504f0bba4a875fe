"""Seeds, and what goes to and comes from replicas. Two devices: `training/test_replicas.py` and `bilevel/`."""

from __future__ import annotations

import types

import numpy as np
import pytest
import tensorflow as tf

from mnemonics_tf import checks, runtime
from mnemonics_tf.checks import UsageError
from mnemonics_tf.system import devices, seeds


@pytest.mark.parametrize(
    ("size", "replicas", "sizes"),
    [(6, 1, [6]), (6, 2, [3, 3]), (5, 2, [3, 2]), (3, 3, [1, 1, 1]), (10, 4, [3, 3, 2, 2])],
)
def test_batch_is_split_in_consecutive_parts_of_nearly_equal_size(size, replicas, sizes):
    indices = np.random.default_rng(0).permutation(size)
    parts = runtime.split(indices, types.SimpleNamespace(num_replicas_in_sync=replicas))
    assert [len(part) for part in parts] == sizes
    np.testing.assert_array_equal(np.concatenate(parts), indices)


def test_batch_that_leaves_a_device_without_any_is_refused():
    with pytest.raises(UsageError, match="A batch of 2 cannot be split among 3 devices"):
        runtime.split(np.arange(2), types.SimpleNamespace(num_replicas_in_sync=3))


def test_value_of_a_single_replica_is_the_value():
    value = tf.constant([1.0, 2.0])
    assert runtime.on_each_replica(tf.distribute.get_strategy(), [value]) is value


def test_pipelines_are_not_tuned_while_they_run():
    # The thread that tunes kept who let go of an iterator waiting: 24 of 120 times, for up to the life of the pipeline.
    strategy = tf.distribute.MirroredStrategy(["/cpu:0"])
    batches = runtime.distribute(strategy, lambda share: tf.data.Dataset.range(share.count, 4).batch(2))
    assert batches.options().autotune.enabled is False
    assert [batch.numpy().tolist() for batch in batches] == [[1, 2], [3]]


def test_sum_over_a_single_replica_is_the_tensors():
    strategy, tensors = tf.distribute.get_strategy(), [tf.constant([1.0, 2.0]), tf.constant(3.0)]
    sums = strategy.run(runtime.sum_over_replicas, args=(tensors,))
    for total, tensor in zip(sums, tensors, strict=True):
        np.testing.assert_array_equal(total, tensor)
    assert runtime.num_replicas() == 1


def test_global_mean_counts_the_masked_values_alone():
    values = tf.constant([1.0, 2.0, 6.0, np.nan])
    assert float(runtime.global_mean(values[:3])) == pytest.approx(3.0)
    # Not even NaN gets past the mask: (1 + 6) / 2.
    assert float(runtime.global_mean(values, tf.constant([True, False, True, False]))) == pytest.approx(3.5)
    assert float(runtime.global_mean(values, tf.zeros([4], tf.bool))) == 0.0


def test_gradient_of_the_global_mean_is_zero_where_the_mask_is():
    values = tf.constant([1.0, 2.0, 3.0])
    with tf.GradientTape() as tape:
        tape.watch(values)
        mean = runtime.global_mean(values, tf.constant([True, False, True]))
    np.testing.assert_array_equal(tape.gradient(mean, values), [0.5, 0.0, 0.5])


def test_every_stage_draws_from_a_seed_of_its_own():
    names = [(0, "herding"), (1, "herding"), (0, "learn"), (0, 1), (1,)]
    drawn = {seeds.stage_seed(seed, *name) for seed in (0, 1) for name in names}
    assert len(drawn) == 10
    assert all(0 <= seed < 2**31 for seed in drawn)


def test_generator_draws_the_same_again():
    first, again, other = (seeds.generator(7, phase, "herding").normal(size=4) for phase in (2, 2, 3))
    np.testing.assert_array_equal(again, first)
    assert (other != first).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strategy": "all"}, r"Devices\.strategy = 'all': expected one of 'one_device', 'mirrored', 'multi_worker'"),
        ({"wait_for_workers": 0}, r"Devices\.wait_for_workers = 0"),
        ({"slurm_port": 1.5}, r"Devices\.slurm_port = 1\.5"),
    ],
)
def test_impossible_devices_are_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        devices.Devices(**settings)


@pytest.mark.parametrize("strategy", [None, "one_device", "mirrored"])
def test_process_that_works_alone_is_chief_and_feeds_all_its_replicas(monkeypatch, strategy):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    made = devices.Devices(strategy).create_strategy()
    assert (runtime.num_workers(made), runtime.worker_index(made), runtime.is_chief(made)) == (1, 0, True)
    assert runtime.share_of(made) == runtime.Share(1, 0, 1)
    assert runtime.is_common(made, 7)
    array = np.array([1.0, 2.0], np.float32)
    np.testing.assert_array_equal(runtime.sum_over_workers(made, [array])[0], array)


def test_several_workers_are_not_made_up(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    monkeypatch.delenv("SLURM_PROCID", raising=False)
    with pytest.raises(UsageError, match="neither TF_CONFIG nor Slurm names several workers"):
        devices.Devices("multi_worker").create_strategy()


def test_what_tensorflow_raises_is_not_put_down_to_workers_where_there_are_none():
    with pytest.raises(tf.errors.UnavailableError), runtime.explaining_lost_workers(tf.distribute.get_strategy()):
        raise tf.errors.UnavailableError(None, None, "no disk")


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Collective ops is aborted by: task:1 is gone", checks.LostWorkerError),
        ("Socket closed\nwhile calling /job:worker/replica:0/task:0", checks.LostWorkerError),
        ("cuDNN launch failure : input shape ([8,3,4,4])", tf.errors.InternalError),
    ],
)
def test_failure_of_a_worker_itself_is_not_put_down_to_another(monkeypatch, message, expected):
    monkeypatch.setattr(runtime, "num_workers", lambda strategy: 2)
    with pytest.raises(expected), runtime.explaining_lost_workers(tf.distribute.get_strategy()):
        raise tf.errors.InternalError(None, None, message)
