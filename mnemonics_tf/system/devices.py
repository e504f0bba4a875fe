"""Which devices a run is computed on: settings, and the TensorFlow strategy that is made of them."""

from __future__ import annotations

import dataclasses
import os
import signal

from mnemonics_tf import checks
from mnemonics_tf.system import cluster
from mnemonics_tf.system.lazy import tf

# TensorFlow connects a process with the others once.
_with_others: dict[cluster.Cluster, tf.distribute.Strategy] = {}

STRATEGIES = ("one_device", "mirrored", "multi_worker")


@dataclasses.dataclass(frozen=True)
class Devices:
    """Which devices a run is computed on.

    Attributes:
      strategy: `one_device` (the first GPU, or the CPU where there is none), `mirrored` (all GPUs of this machine, or
        all logical CPU devices where there are none) or `multi_worker` (all devices of all workers that TF_CONFIG or
        Slurm name). None, the default, uses all that there is: `multi_worker` where there are several workers, else
        `mirrored`, which on one device costs nothing.
      wait_for_workers: seconds, above 0, after which a worker that has not come is an error. 300 by default: machines
        of a cluster start minutes apart, and TensorFlow itself would wait for ever.
      slurm_port: the port at which the first task of each machine listens under Slurm; further tasks take the ports
        after it. 8888 by default, as in TensorFlow's own resolver.

    Raises:
      UsageError: a value is out of its range, or no such choice.
    """

    strategy: str | None = None
    wait_for_workers: float = 300.0
    slurm_port: int = 8888

    def __post_init__(self):
        if self.strategy is not None:
            checks.check_choice("Devices.strategy", self.strategy, STRATEGIES)
        checks.check_positive(**{"Devices.wait_for_workers": self.wait_for_workers})
        checks.check_positive_integer(**{"Devices.slurm_port": self.slurm_port})

    @property
    def works_alone(self) -> bool:
        """Whether this process is the only worker, by what it is asked for and what TF_CONFIG and Slurm say."""
        return self.strategy in ("one_device", "mirrored") or (
            self.strategy is None and cluster.own_cluster(self.slurm_port) is None
        )

    def create_strategy(self) -> tf.distribute.Strategy:
        """Makes the strategy, first meeting the other workers if there are several.

        With several workers this must come before anything else that TensorFlow computes, and a process has one
        strategy for all that it learns.

        Raises:
          UsageError: TF_CONFIG or Slurm's variables cannot be understood, a worker does not come, or several workers
            are asked for and nothing names them.
        """
        workers = cluster.own_cluster(self.slurm_port) if self.strategy in (None, "multi_worker") else None
        if workers is not None:
            if workers not in _with_others:
                _with_others[workers] = _multi_worker(workers, self.wait_for_workers)
            return _with_others[workers]
        if self.strategy == "multi_worker":
            raise checks.UsageError(
                "Devices.strategy = 'multi_worker': neither TF_CONFIG nor Slurm names several workers. Set TF_CONFIG "
                "for each of them, start them by srun, or leave the strategy out."
            )
        kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
        names = [device.name for device in tf.config.list_logical_devices(kind)]
        return tf.distribute.MirroredStrategy(names[:1] if self.strategy == "one_device" else names)


def _multi_worker(workers: cluster.Cluster, wait: float) -> tf.distribute.Strategy:
    cluster.meet(workers, wait)
    # Through a proxy of the web, workers would wait for one another for ever.
    os.environ.setdefault("grpc_proxy", "")
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(workers.addresses)}),
        task_type="worker",
        task_id=workers.index,
        rpc_layer="grpc",
    )
    before = signal.getsignal(signal.SIGTERM)
    strategy = tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
    # TensorFlow now takes SIGTERM for a notice and goes on. Here it ends the process, as it did before.
    signal.signal(signal.SIGTERM, before)
    return strategy
