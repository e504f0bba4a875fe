"""Training on two logical CPU devices against one. TensorFlow fixes its devices at its start: a process for each."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np
import pytest

_SCRIPT = textwrap.dedent("""
    import sys
    import numpy as np, tensorflow as tf
    count, training, output, rehearsing = int(sys.argv[1]), sys.argv[2] == "True", sys.argv[3], sys.argv[4] == "True"
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)

    from mnemonics_tf.system import devices, seeds
    from mnemonics_tf.data.pipeline import Augmentation
    from mnemonics_tf.methods.lucir import LUCIR
    from mnemonics_tf.models.classifier import ClassifierFactory
    from mnemonics_tf.models.resnet import ResNet
    from mnemonics_tf.system.tracking import Tracker
    from mnemonics_tf.training.loop import Trainer
    from mnemonics_tf.training.rehearsal import PhaseRehearsal, Rehearsal
    from mnemonics_tf.training.settings import ModelLevel
    from mnemonics_tf.data.types import ClassGroups, LabelledImages, PixelRange

    strategy = devices.Devices().create_strategy()
    assert strategy.num_replicas_in_sync == count
    factory = ClassifierFactory(ResNet((1,), (4,)), (4, 4, 1))
    seeds.seed_initial_weights(0)
    with strategy.scope():
        teacher, model = factory.build(0, 4), factory.build(2, 2)
    model.train_all()
    generator = np.random.default_rng(0)
    # A last batch of 1 image: on two devices it would leave one of them without any.
    data = LabelledImages(generator.integers(0, 256, (25, 4, 4, 1), np.uint8), generator.integers(0, 4, 25))
    method = LUCIR()
    settings = ModelLevel(epochs=2, batch_size=8, learning_rate=0.05, weight_decay=0.01, milestones=())

    groups, rehearsal, offsets = ClassGroups((2, 2)), None, None
    data = data.take(slice(0, 24)) if not training else data
    if rehearsing:
        use = Rehearsal(0.375, True, 1.0, 0.02, "cosine", "exemplars", 0.8)
        rehearsal = PhaseRehearsal(use, data.labels, groups)
        offsets = rehearsal.offsets(settings.batch_size)

    def batch_losses(images, labels):
        outputs = model(images, training=training)
        outputs = outputs if offsets is None else outputs._replace(offsets=offsets(labels))
        return method.losses(outputs, teacher(images), labels, groups)

    trainer = Trainer(strategy, PixelRange((0.5,), (0.25,)), Augmentation(), Tracker())
    trainer.fit(model, batch_losses, data, settings, "train_model", 0, None, rehearsal)
    for variable in model.variables:
        copies = strategy.experimental_local_results(variable.value)
        for copy in copies:
            np.testing.assert_array_equal(copy.numpy(), copies[0].numpy())
    np.savez(output, *model.get_weights())
""")


def _train(devices: int, training: bool, folder, rehearsing: bool = False) -> list[np.ndarray]:
    output = folder / f"{devices}.npz"
    command = [sys.executable, "-c", _SCRIPT, str(devices), str(training), str(output), str(rehearsing)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr
    with np.load(output) as arrays:
        return [arrays[name] for name in arrays.files]


def test_two_devices_train_like_one_with_every_use_of_memory(tmp_path):
    # With frozen statistics: in training mode each device normalises by its own half of the batch. Plain training is
    # compared by the heavy tests of `test_workers`.
    one, two = (_train(devices, training=False, folder=tmp_path, rehearsing=True) for devices in (1, 2))
    for first, second in zip(one, two, strict=True):
        np.testing.assert_allclose(second, first, atol=2e-6)


def test_devices_agree_after_training_with_batch_statistics(tmp_path):
    weights = _train(2, training=True, folder=tmp_path)
    assert all(np.isfinite(weight).all() for weight in weights)


@pytest.mark.parametrize(
    ("count", "batch_size", "num_replicas", "used"),
    [
        (25, 8, 1, 25),
        (25, 8, 2, 24),  # 1 image is one for the first and none for the second
        (26, 8, 2, 26),
        (9, 16, 4, 9),  # 2, 2, 2, 3
        (19, 16, 4, 16),  # 3 images are none for one of four
        (3, 16, 4, 0),  # nothing is left
        (128, 128, 24, 128),  # batches of 5 and 6, although 24 shares of ceil(128 / 24) = 6 would not be filled
        (100, 3, 4, 0),  # no batch goes round
    ],
)
def test_last_batch_is_left_out_if_a_device_would_get_none_of_it(count, batch_size, num_replicas, used):
    from mnemonics_tf.checks import UsageError
    from mnemonics_tf.data.batches import images_per_epoch

    if used:
        assert images_per_epoch(count, batch_size, num_replicas) == used
    else:
        with pytest.raises(UsageError, match="cannot be split among 4 devices"):
            images_per_epoch(count, batch_size, num_replicas)
