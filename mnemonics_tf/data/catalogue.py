"""Which features and which splits of a TFDS set a run uses: decided, or refused, before anything large is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from mnemonics_tf import checks, runtime
from mnemonics_tf.system import tracking

_TRAIN = ("train", "training")
# In the order of preference: where test labels are kept secret, everyone tests on the validation images.
_TESTS = ("test", "testing", "validation", "valid", "val", "dev", "eval")
_PEEK = 64  # examples whose labels are looked at; some megabytes of photographs


@dataclasses.dataclass(frozen=True)
class Classification:
    """The two features of a data set that make it one of image classification.

    Attributes:
      image_key: name of the feature that holds the images.
      label_key: name of the feature that holds the classes.
      image: the feature that holds the images.
      label: the feature that holds the classes.
      num_channels: C of the decoded images; images of an unknown number of channels become RGB.
    """

    image_key: str
    label_key: str
    image: tfds.features.Image
    label: tfds.features.ClassLabel
    num_channels: int

    @property
    def num_classes(self) -> int:
        """Number of classes; their ids are 0 to `num_classes - 1`."""
        return self.label.num_classes

    @property
    def decoders(self) -> dict[str, tfds.decode.Decoder]:
        """For `as_dataset`: images stay encoded."""
        return {self.image_key: tfds.decode.SkipDecoding()}

    @property
    def partial(self) -> tfds.decode.PartialDecoding:
        """For `as_dataset`: images stay encoded, and other features are not even parsed."""
        features = {self.image_key: self.image, self.label_key: self.label}
        return tfds.decode.PartialDecoding(features, decoders=self.decoders)


def classification(builder: tfds.core.DatasetBuilder) -> Classification:
    """Finds image and class among the features of a data set, which need not be prepared for that.

    The image is the feature `image`, or the only one that is an image; the class is the feature `label`, or the only
    one that is a class.

    Raises:
      UsageError: it is no data set of image classification, or images are of a type that is not read.
    """
    features = builder.info.features
    name = f"tfds.name = {builder.name!r}"
    if not isinstance(features, tfds.features.FeaturesDict):
        raise checks.UsageError(f"{name}: expected a data set with the features 'image' and 'label', found {features}.")
    image_key = _key(features, "image", tfds.features.Image, name)
    label_key = _key(features, "label", tfds.features.ClassLabel, name)
    image, label = features[image_key], features[label_key]
    if image.np_dtype not in (np.uint8, np.uint16):
        raise checks.UsageError(
            f"{name}: its images are {np.dtype(image.np_dtype)}, whose range nobody tells. Expected uint8, or uint16, "
            "of which the upper 8 bits are kept. Choose another set, or store the images as 8 bits."
        )
    num_channels = image.shape[-1] or 3
    if num_channels not in (1, 3, 4):
        raise checks.UsageError(f"{name}: its images have {num_channels} channels. Expected 1, 3 or 4.")
    if not label.num_classes:
        raise checks.UsageError(f"{name}: its feature {label_key!r} does not say how many classes there are.")
    return Classification(image_key, label_key, image, label, num_channels)


def _key(features: tfds.features.FeaturesDict, usual: str, kind: type, name: str) -> str:
    """The name of the feature of a kind: the usual one, or the only one. Raises UsageError if there is none."""
    # Exactly that kind: labelled images (masks) are images, too.
    matching = [key for key, feature in features.items() if type(feature) is kind]
    if usual in matching:
        return usual
    if len(matching) == 1 and usual not in features:
        return matching[0]
    expected = f"expected a data set with the features 'image' and 'label', {usual!r} as {kind.__name__}"
    if usual in features:
        found = f"it is {type(features[usual]).__name__}"
    elif matching:
        found = f"found {', '.join(map(repr, matching))}, and one image has one class here"
    else:
        found = f"found {', '.join(f'{key!r} ({type(each).__name__})' for key, each in list(features.items())[:6])}"
    raise checks.UsageError(f"{name}: {expected}; {found}. Choose another set.")


def splits(builder: tfds.core.DatasetBuilder, found: Classification) -> tuple[str, str | None]:
    """The splits to train and to test on; None to test on if a share of the training images is to be held out.

    Of each candidate the first labels are looked at: splits whose labels are secret, or that have none, do not count.

    Args:
      builder: the data set, prepared.
      found: its features.

    Raises:
      UsageError: there is nothing to train on.
    """
    names = [split for split, info in builder.info.splits.items() if info.num_examples]
    labelled = [split for split in names if split in (*_TRAIN, *_TESTS) or len(names) == 1]
    if builder.name == "imagenet2012":  # known without a look at its 6 GB of test images
        labelled = [split for split in labelled if split != "test"]
    train = next((split for split in _TRAIN if split in labelled), None)
    if train is None and len(names) == 1:
        train = names[0]
    if train is None:
        raise checks.UsageError(
            f"tfds.name = {builder.name!r}: expected a split 'train' (and 'test' or 'validation', or a share of it is "
            f"held out), or a single split; found {', '.join(builder.info.splits) or 'none'}. Choose another set."
        )
    if not _has_labels(builder, found, train):
        raise checks.UsageError(
            f"tfds.name = {builder.name!r}: the labels of its split {train!r} are secret or missing (such as -1). "
            "Expected images with a class. Choose another set, or another configuration of this one."
        )
    for test in _TESTS:
        if test in labelled and test != train:
            if _has_labels(builder, found, test):
                return train, test
            tracking.notice(
                f"Data set {builder.name!r}: the labels of its split {test!r} are secret; it is left alone."
            )
    return train, None


def _has_labels(builder: tfds.core.DatasetBuilder, found: Classification, split: str) -> bool:
    """Whether any of the first examples has a class. TFDS has shuffled them."""
    count = min(_PEEK, builder.info.splits[split].num_examples)
    examples = builder.as_dataset(split=f"{split}[:{count}]", decoders=found.partial, shuffle_files=False)
    try:
        labels = [int(example[found.label_key]) for example in runtime.untuned(examples).as_numpy_iterator()]
    except tf.errors.OpError:
        return True  # what reads all of them says what is wrong
    return any(0 <= label < found.num_classes for label in labels)


def check_labels(builder: tfds.core.DatasetBuilder, split: str, labels: Sequence[int] | np.ndarray, limit: int) -> None:
    """Raises UsageError if a label is no class id below `limit`."""
    smallest, largest = int(np.min(labels)), int(np.max(labels))
    if not 0 <= smallest <= largest < limit:
        raise checks.UsageError(
            f"Data set {builder.name!r}: its split {split!r} has images without a class (label "
            f"{smallest if smallest < 0 else largest}). Expected labels of 0 to {limit - 1}. Choose another set."
        )
