"""Imprinting: the weights of new classes start from their images' features."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from mnemonics_tf.models.heads import HEADS, CosineHead, Head, LinearHead, ProxyHead
from mnemonics_tf.models.imprinting import imprint, imprinted


def _head(kind: type[Head], num_old_classes: int, num_new_classes: int, width: int = 5) -> Head:
    keras.utils.set_random_seed(3)
    head = kind(num_old_classes, num_new_classes)
    head.build((None, width))
    return head


def _mean_length(kernel: np.ndarray) -> float:
    return sum(np.sqrt(column @ column) for column in kernel.T) / kernel.shape[1]


@pytest.mark.parametrize("kind", [CosineHead, LinearHead])
def test_imprinted_weights_point_to_the_classes_mean_direction_at_the_old_weights_mean_length(kind):
    head = _head(kind, 3, 2)
    old = head.old_kernel.numpy()
    generator = np.random.default_rng(4)
    # Very different lengths, so that a mean of unnormalised features points elsewhere; classes in mixed order.
    features = generator.normal(size=(12, 5)) * generator.uniform(0.1, 30, (12, 1))
    labels = np.array([4, 3, 3, 4, 4, 3, 3, 3, 4, 3, 4, 3])
    imprint(head, features, labels)
    length = (np.linalg.norm(old[:, 0]) + np.linalg.norm(old[:, 1]) + np.linalg.norm(old[:, 2])) / 3
    for column, label in enumerate((3, 4)):
        total = np.zeros(5)
        for feature in features[labels == label]:
            total += feature / np.sqrt(feature @ feature)
        np.testing.assert_allclose(
            head.new_kernel.numpy()[:, column], length * total / np.sqrt(total @ total), rtol=1e-5, atol=1e-6
        )
    np.testing.assert_array_equal(head.old_kernel, old)


def test_imprinting_by_hand():
    # Old weights of length 2 and 4: mean 3. Directions (1, 0) and (0, 1) have the mean direction (1, 1) / sqrt(2).
    head = CosineHead(2, 1)
    head.build((None, 2))
    head.old_kernel.assign([[2.0, 0.0], [0.0, 4.0]])
    imprint(head, np.array([[5.0, 0.0], [0.0, 0.1]]), np.array([2, 2]))
    np.testing.assert_allclose(head.new_kernel, np.full((2, 1), 3 / np.sqrt(2)), rtol=1e-6)


@pytest.mark.parametrize("kind", HEADS.values(), ids=list(HEADS))
def test_imprinting_needs_old_classes(kind):
    with pytest.raises(ValueError, match="no"):
        imprint(_head(kind, 0, 2), np.ones((2, 5)), np.array([0, 1]))


@pytest.mark.parametrize("kind", HEADS.values(), ids=list(HEADS))
def test_imprinting_names_the_class_without_features(kind):
    with pytest.raises(ValueError, match="Class index 4 has no features"):
        imprint(_head(kind, 3, 2), np.ones((2, 5)), np.array([3, 3]))


def _clusters(num_clusters: int, each: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Orthogonal directions `[clusters, 16]`, and features close to them, of all lengths and in mixed order."""
    generator = np.random.default_rng(seed)
    centres = np.linalg.qr(generator.normal(size=(16, 16)))[0][:num_clusters]
    features = np.repeat(centres, each, axis=0) + generator.normal(0, 0.01, (num_clusters * each, 16))
    features *= generator.uniform(0.1, 30, (len(features), 1))
    return centres, features[generator.permutation(len(features))]


def test_proxies_of_a_class_are_the_directions_of_its_clusters():
    head = _head(ProxyHead, 3, 2, width=16)
    old = head.old_kernel.numpy()
    # Ten clusters for ten proxies; they are 90 degrees apart and 0.01 * sqrt(16) = 0.04 wide.
    centres, features = zip(*[_clusters(10, 6, seed) for seed in (0, 1)], strict=True)
    order = np.random.default_rng(2).permutation(120)
    imprint(head, np.concatenate(features)[order], np.repeat([3, 4], 60)[order])
    imprinted = head.new_kernel.numpy()
    np.testing.assert_allclose(np.linalg.norm(imprinted, axis=0), _mean_length(old), rtol=1e-5)
    for index, directions in enumerate(centres):
        proxies = imprinted[:, 10 * index : 10 * index + 10] / _mean_length(old)
        cosines = directions @ proxies
        # A proxy for every cluster, in some order; the mean of 6 is 0.04 / sqrt(6) = 0.016 off, a cosine of 0.9999.
        assert sorted(cosines.argmax(axis=1)) == list(range(10))
        assert cosines.max(axis=1).min() > 0.9995
    np.testing.assert_array_equal(head.old_kernel, old)


def test_proxies_are_the_mean_directions_of_unequal_clusters():
    # Nine images by themselves, and ten close together: the tenth proxy is the mean direction of those.
    centres, features = _clusters(9, 1, 3)
    generator = np.random.default_rng(4)
    away = np.linalg.qr(np.vstack([centres, generator.normal(size=(1, 16))]).T)[0][:, 9]
    crowd = away + generator.normal(0, 0.01, (10, 16))
    head = _head(ProxyHead, 1, 1, width=16)
    imprint(head, np.concatenate([features, crowd]), np.full(19, 1))
    units = crowd / np.linalg.norm(crowd, axis=1, keepdims=True)
    expected = units.mean(axis=0) / np.linalg.norm(units.mean(axis=0))
    proxies = head.new_kernel.numpy() / _mean_length(head.old_kernel.numpy())
    nearest = proxies[:, np.argmax(expected @ proxies)]
    np.testing.assert_allclose(nearest, expected, atol=1e-5)


@pytest.mark.parametrize("count", [1, 3, 9])
def test_fewer_images_than_proxies_give_each_image_to_some_of_them(count):
    head = _head(ProxyHead, 2, 1)
    generator = np.random.default_rng(5)
    features = generator.normal(size=(count, 5)) * generator.uniform(0.1, 30, (count, 1))
    imprint(head, features, np.full(count, 2))
    length = _mean_length(head.old_kernel.numpy())
    np.testing.assert_allclose(np.linalg.norm(head.new_kernel, axis=0), length, rtol=1e-5)
    units = features / np.linalg.norm(features, axis=1, keepdims=True)
    nearest = np.argmax(units @ head.new_kernel.numpy(), axis=0)
    np.testing.assert_allclose(head.new_kernel.numpy().T, length * units[nearest], rtol=1e-5, atol=1e-6)
    # Ten proxies among `count` images: each has ten // count, or one more.
    assert set(np.bincount(nearest, minlength=count)) <= {10 // count, 10 // count + 1}


def test_equal_images_give_equal_proxies_without_a_warning():
    head = _head(ProxyHead, 2, 1)
    imprint(head, np.tile([[3.0, 0, 0, 0, 4.0]], (20, 1)), np.full(20, 2))
    expected = np.outer([0.6, 0, 0, 0, 0.8], np.full(10, _mean_length(head.old_kernel.numpy())))
    np.testing.assert_allclose(head.new_kernel, expected, atol=1e-6)


def test_same_images_give_the_same_proxies():
    features = np.random.default_rng(6).normal(size=(40, 5))
    kernels = []
    for seed in (0, 1):  # k-means has a seed of its own
        np.random.seed(seed)
        head = _head(ProxyHead, 2, 1)
        imprint(head, features, np.full(40, 2))
        kernels.append(head.new_kernel.numpy())
    np.testing.assert_array_equal(*kernels)


def test_threads_that_end_in_any_order_give_the_same_proxies(monkeypatch):
    # scikit-learn gives each thread 256 images, and adds up what they found in the order in which they end.
    monkeypatch.setenv("OMP_NUM_THREADS", "6")  # more than there are cores, which it takes from here alone
    features = np.random.default_rng(7).normal(size=(1300, 16)).astype(np.float32)
    with threadpool_limits(6, "openmp"):
        found = {imprinted(features, np.zeros(1300), [0], 10).tobytes() for _ in range(8)}
    assert len(found) == 1
