"""What a snapshot of a training costs: its file, and the time to take and write it.

    python launch/benchmarks/snapshots.py [--turns 15] [--folder runs]

The share is that of a minute, which is how often snapshots are taken by default (`Experiment.snapshot_seconds`).
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

_CASES = (("resnet32", 32, 100), ("resnet18", 224, 1000))


def main() -> None:
    """Prints a row for each network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--folder", default=".", help="on the disk that is measured")
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    from mnemonics_tf.learner.defaults import BACKBONES
    from mnemonics_tf.models.classifier import ClassifierFactory
    from mnemonics_tf.system.snapshot_files import PhaseSnapshots
    from mnemonics_tf.training.progress import Progress

    print("network     classes        MB    median ms   slowest ms   processor ms   of a minute")
    for name, side, num_classes in _CASES:
        model = ClassifierFactory(BACKBONES[name], (side, side, 3)).build(0, num_classes)
        model.train_all()
        optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
        optimizer.build(model.trainable_variables)
        progress, taken = Progress(model, optimizer, None, None, None), []
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            store = PhaseSnapshots(os.path.join(folder, "000.snapshots"), True, seconds=lambda: {"train_model": 1.0})
            busy = time.process_time()
            for _ in range(arguments.turns):
                start = time.perf_counter()
                store.save("train_model_steps", progress.arrays())
                taken.append(1e3 * (time.perf_counter() - start))
            busy = 1e3 * (time.process_time() - busy) / arguments.turns
            size = os.path.getsize(os.path.join(folder, "000.snapshots/train_model_steps.npz")) / 1e6
        middle, slowest = statistics.median(taken), max(taken)
        row = f"{name:10}  {num_classes:7}  {size:8.1f}  {middle:11.0f}  {slowest:11.0f}  {busy:13.0f}"
        print(f"{row}  {middle / 600:10.2f} %")


if __name__ == "__main__":
    main()
