"""A servable model after each phase, which needs TensorFlow but not this package."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from mnemonics_tf.data import pixels
from mnemonics_tf.data.types import PixelRange
from mnemonics_tf.models.classifier import Classifier, ClassifierFactory
from mnemonics_tf.models.heads import cosines


def export_saved_model(
    folder: str,
    model: Classifier,
    factory: ClassifierFactory,
    pixel_range: PixelRange,
    class_ids: Sequence[int],
    class_names: Sequence[str],
    means: np.ndarray | None = None,
) -> None:
    """Writes a SavedModel with two endpoints.

    `serve` (also the default signature) takes `images` uint8 `[B, H, W, C]` and returns for each image `class_ids`
    int64 `[B]` and `class_names` string `[B]` (the likeliest class), `probabilities` float32 `[B, num_classes]` and
    `embeddings` float32 `[B, d]`. Images are on the scale 0..255; the model normalises them. With means, probabilities
    are the softmax of minus squared distances: they rank classes and are not calibrated. `classes` takes nothing and
    returns `class_ids` and `class_names` `[num_classes]`: what the columns of `probabilities` stand for.

    Args:
      folder: the folder that the SavedModel is written to.
      model: the network, which is copied and not changed.
      factory: the factory that can build such a network; it knows the shape of images.
      pixel_range: how pixels 0..255 are normalised to be the network's input.
      class_ids: the data set's id of the class of each output, `[num_classes]`.
      class_names: the name of the class of each output, `[num_classes]`.
      means: mean of each class's exemplars, `[num_classes, d]` of length 1, to predict by the nearest of them. None,
        the default, to predict by the head.
    """
    # A copy outside every strategy: mirrored variables would tie the file to this machine's devices.
    copy = factory.copy(model)
    ids = tf.constant(list(class_ids), tf.int64)
    names = tf.constant(list(class_names))

    def serve(images: tf.Tensor) -> dict[str, tf.Tensor]:
        # Convolutions refuse a batch without images: one of zeros takes its place, and is left out of the answer.
        count = tf.shape(images)[0]
        images = tf.pad(images, [[0, tf.cast(count == 0, tf.int32)], [0, 0], [0, 0], [0, 0]])
        outputs = copy(pixels.normalise(images, pixel_range), training=False)
        logits = outputs.logits
        if means is not None:
            # Minus the squared distances, up to a constant: the nearest mean is the likeliest class.
            logits = 2.0 * cosines(outputs.features, tf.constant(means.T, tf.float32))
        best = tf.argmax(logits, axis=1)
        answer = {
            "class_ids": tf.gather(ids, best),
            "class_names": tf.gather(names, best),
            "probabilities": tf.nn.softmax(logits),
            "embeddings": outputs.features,
        }
        return {name: values[:count] for name, values in answer.items()}

    archive = keras.export.ExportArchive()
    archive.track(copy)
    archive.add_endpoint("serve", serve, [tf.TensorSpec([None, *factory.image_shape], tf.uint8, name="images")])
    archive.add_endpoint("classes", lambda: {"class_ids": ids, "class_names": names}, [])
    archive.write_out(folder, verbose=False)
