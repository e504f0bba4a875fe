"""Meta-gradients on two logical CPU devices. TensorFlow fixes its devices at its start: a process of its own."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np
import pytest

_SCRIPT = textwrap.dedent("""
    import sys
    import numpy as np, tensorflow as tf
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

    from mnemonics_tf import losses
    from mnemonics_tf.system import devices
    from mnemonics_tf.bilevel import InnerSGD, MetaGradientEngine, meta_gradient
    from mnemonics_tf.checks import UsageError

    generator = np.random.default_rng(0)

    def normal(*shape):
        return tf.constant(generator.normal(size=shape), tf.float32)

    weights = normal(18, 6)

    def features(images):
        return tf.tanh(tf.reshape(images, [-1, 18]) @ weights / 4)

    def head_loss(params, inputs, labels):
        return tf.reduce_mean(losses.cross_entropy(tf.tanh(inputs @ params[0] + params[1]) @ params[2], labels))

    def loss(params, images, labels):
        return head_loss(params, features(images), labels)

    params = [normal(6, 5), normal(5), normal(5, 3)]
    plan = np.stack([generator.permutation(11)[:5] for _ in range(4)])
    soft, hard = tf.nn.softmax(normal(11, 3)), tf.constant(np.arange(11) % 3)
    images, image_labels, exemplars = normal(7, 3, 3, 2), tf.constant([0, 1, 2, 0, 1, 2, 0]), normal(11, 3, 3, 2)
    rates = tf.constant([0.5, 0.3, 0.4, 0.2])
    sgd = InnerSGD(0.3, momentum=0.5, weight_decay=0.01)
    variants = {
        "adjoint": (loss, {"engine": "adjoint"}),
        "checkpointed": (loss, {"engine": "adjoint", "checkpoint_every": 2}),
        "recorded": (loss, {"engine": "adjoint", "keep_activations": 2}),
        "in_pieces": (loss, {"engine": "adjoint", "images_at_once": 2}),
        "adjoint_forward": (loss, {"engine": "adjoint_forward"}),
        "truncated": (loss, {"engine": "truncated", "window": 2}),
        "unrolled": (loss, {"engine": "unrolled"}),
        "head": (head_loss, {"engine": "head", "features": features}),
    }

    strategy = devices.Devices().create_strategy()
    assert strategy.num_replicas_in_sync == 2
    single = tf.distribute.get_strategy()
    arrays = {}

    def keep(name, result):
        arrays.update({f"{name}/{field}": value for field, value in result._asdict().items() if value is not None})

    for name, (objective, options) in variants.items():
        for devices, each in ((1, single), (2, strategy)):
            engine = MetaGradientEngine(objective, objective, sgd, strategy=each, **options)
            keep(f"{name}/{devices}", engine(params, exemplars, soft, plan, images, image_labels, rates))
    # In a strategy's scope the function takes that strategy.
    arguments = (loss, loss, params, exemplars, hard, plan, images, image_labels)
    keep("function/1", meta_gradient(*arguments, sgd=sgd))
    with strategy.scope():
        keep("function/2", meta_gradient(*arguments, sgd=sgd))
        try:
            meta_gradient(*arguments[:5], plan[:, :1], images, image_labels, sgd=sgd)
        except UsageError as error:
            arrays["message"] = np.array(str(error))
    np.savez(sys.argv[1], **{name: np.asarray(value) for name, value in arrays.items()})
""")


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
    """Results by `variant/devices/field`."""
    output = tmp_path_factory.mktemp("replicas") / "results.npz"
    command = [sys.executable, "-c", _SCRIPT, str(output)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr
    with np.load(output) as loaded:
        return dict(loaded)


_FIELDS = ("loss", "exemplars", "labels", "rates", "adjoint_norms")


@pytest.mark.parametrize(
    ("variant", "fields"),
    [
        ("adjoint", _FIELDS),
        ("checkpointed", _FIELDS),
        ("recorded", _FIELDS),
        ("in_pieces", _FIELDS),
        ("adjoint_forward", _FIELDS),
        ("truncated", _FIELDS),
        ("unrolled", _FIELDS[:-1]),
        ("head", _FIELDS),
        ("function", ("loss", "exemplars", "adjoint_norms")),
    ],
)
def test_two_devices_give_the_meta_gradient_of_one(arrays, variant, fields):
    # Batches of 5 exemplars and of 7 images: 3 and 2, 4 and 3. Halves of equal weight would be wrong.
    assert tuple(name.split("/")[2] for name in arrays if name.startswith(f"{variant}/2/")) == fields
    for field in fields:
        one, two = (arrays[f"{variant}/{devices}/{field}"] for devices in (1, 2))
        assert one.shape == two.shape
        assert np.linalg.norm(one) > 0
        assert np.linalg.norm(two - one) < 1e-5 * np.linalg.norm(one)


def test_batch_of_fewer_exemplars_than_devices_is_refused(arrays):
    assert "A batch of 1 cannot be split among 2 devices" in str(arrays["message"])
