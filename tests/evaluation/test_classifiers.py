"""The head and the nearest mean of exemplars, against a brute-force oracle."""

from __future__ import annotations

import numpy as np
import pytest

from mnemonics_tf.data.types import LabelledImages
from mnemonics_tf.evaluation import classifiers
from mnemonics_tf.evaluation.settings import CLASSIFIERS


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.sqrt(np.sum(vector**2))


def _means_by_brute_force(features, mirrored, labels) -> np.ndarray:
    """The normalised mean of all normalised features of a class: those of its exemplars and of their mirror images."""
    means = []
    for label in sorted(set(labels.tolist())):
        members = [_unit(feature) for feature, owner in zip(features, labels, strict=True) if owner == label]
        if mirrored is not None:
            members += [_unit(feature) for feature, owner in zip(mirrored, labels, strict=True) if owner == label]
        means.append(_unit(sum(members) / len(members)))
    return np.stack(means)


def _nearest_by_brute_force(features: np.ndarray, means: np.ndarray) -> list[int]:
    return [int(np.argmin([np.sum((_unit(feature) - mean) ** 2) for mean in means])) for feature in features]


def _random_features(count: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(count, 5)) * generator.uniform(0.1, 20, (count, 1))


_LABELS = np.array([2, 0, 1, 1, 0, 2, 2, 0, 2, 1])


@pytest.mark.parametrize("with_mirrored", [False, True])
def test_means_are_those_of_normalised_features(with_mirrored):
    features, mirrored = _random_features(10, 0), _random_features(10, 1) if with_mirrored else None
    means = classifiers.nme_means(features, mirrored, _LABELS)
    np.testing.assert_allclose(means, _means_by_brute_force(features, mirrored, _LABELS), rtol=1e-10)
    np.testing.assert_allclose(np.linalg.norm(means, axis=1), 1.0, rtol=1e-12)


def test_means_by_hand():
    # Directions (1, 0) and (0, 1), whatever the length: mean (1/2, 1/2), normalised (1, 1) / sqrt(2). The mirror images
    # have (0, 1) and (0, 1): mean of all four (1/4, 3/4), normalised (1, 3) / sqrt(10).
    features, labels = np.array([[7.0, 0.0], [0.0, 0.2]]), np.array([0, 0])
    np.testing.assert_allclose(classifiers.nme_means(features, None, labels), [[0.5**0.5, 0.5**0.5]], rtol=1e-12)
    mirrored = np.array([[0.0, 3.0], [0.0, 1.0]])
    np.testing.assert_allclose(
        classifiers.nme_means(features, mirrored, labels), [[1 / 10**0.5, 3 / 10**0.5]], rtol=1e-12
    )


def test_classes_may_have_different_numbers_of_exemplars():
    features, labels = _random_features(6, 2), np.array([0, 1, 1, 1, 1, 1])
    np.testing.assert_allclose(
        classifiers.nme_means(features, None, labels), _means_by_brute_force(features, None, labels), rtol=1e-10
    )


def test_prediction_is_the_class_whose_mean_is_nearest_to_the_normalised_feature():
    means = _means_by_brute_force(_random_features(10, 3), None, _LABELS)
    features = _random_features(200, 4)
    predicted = classifiers.nme_predict(features, means)
    assert predicted.tolist() == _nearest_by_brute_force(features, means)
    assert set(predicted.tolist()) == {0, 1, 2}


class _PixelPredictor:
    """Stands for a network: features and logits are linear in the pixels, so that a moved pixel changes them."""

    def __init__(self, shape, num_classes: int):
        generator = np.random.default_rng(5)
        self.to_features = generator.normal(size=(int(np.prod(shape)), 4))
        self.to_logits = generator.normal(size=(4, num_classes))

    def features(self, data: LabelledImages, stage: str = "", mirrored: bool = False) -> np.ndarray:
        images = data.images[:, :, ::-1] if mirrored else data.images
        return images.reshape(len(data), -1) / 255 @ self.to_features

    def __call__(self, data: LabelledImages, stage: str = "") -> tuple[np.ndarray, np.ndarray]:
        return self.features(data), self.features(data) @ self.to_logits


def _images(labels: np.ndarray, seed: int) -> LabelledImages:
    """Images `[n, 2, 3, 3]`: unequal sides, and as many channels as columns."""
    return LabelledImages(np.random.default_rng(seed).integers(0, 256, (len(labels), 2, 3, 3)).astype(np.uint8), labels)


@pytest.mark.parametrize("horizontal_flip", [False, True])
def test_both_classifiers_predict_the_test_images(horizontal_flip):
    exemplars, test = _images(_LABELS, 6), _images(np.arange(300) % 3, 7)
    predictor = _PixelPredictor((2, 3, 3), 3)
    found = classifiers.means_of(predictor, exemplars, 3, horizontal_flip)
    predictions = classifiers.predict(predictor, test, found)
    mirrored = None
    if horizontal_flip:
        # Left and right change places; rows and colours stay.
        flipped = np.stack([exemplars.images[:, :, column] for column in (2, 1, 0)], axis=2)
        mirrored = predictor.features(LabelledImages(flipped, exemplars.labels))
    means = _means_by_brute_force(predictor.features(exemplars), mirrored, _LABELS)
    features, logits = predictor(test)
    assert set(predictions.by_classifier) == set(CLASSIFIERS) == {"cnn", "nme"}
    assert predictions.by_classifier["nme"].tolist() == _nearest_by_brute_force(features, means)
    assert predictions.by_classifier["cnn"].tolist() == [max(range(3), key=row.__getitem__) for row in logits.tolist()]
    np.testing.assert_array_equal(predictions.labels, test.labels)


def test_mirror_images_change_predictions():
    # Otherwise the test above could not tell whether they are used.
    exemplars, test = _images(_LABELS, 6), _images(np.arange(300) % 3, 7)
    predictor = _PixelPredictor((2, 3, 3), 3)
    with_mirrored, without = (
        classifiers.predict(predictor, test, classifiers.means_of(predictor, exemplars, 3, flip)).by_classifier["nme"]
        for flip in (True, False)
    )
    assert (with_mirrored != without).any()


def test_class_without_exemplars_leaves_the_head_alone():
    exemplars, test = _images(_LABELS, 6), _images(np.arange(30) % 3, 7)
    predictor = _PixelPredictor((2, 3, 3), 4)
    assert classifiers.means_of(predictor, exemplars, 4, False) is None
    assert set(classifiers.predict(predictor, test, None).by_classifier) == {"cnn"}
