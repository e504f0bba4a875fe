"""A servable model after each phase, which needs TensorFlow but not this package. It has four endpoints.

`serve` (also the default signature) takes `images` uint8 `[B, H, W, C]` and returns for each image `class_ids` int64
`[B]` and `class_names` string `[B]` (the likeliest class), `probabilities` float32 `[B, num_classes]` and
`embeddings` float32 `[B, d]`. Images are on the scale 0..255; the model normalises them. Where the nearest mean
predicts, probabilities are the softmax of minus squared distances: they rank classes and are not calibrated.

`serve_jpeg` takes `image_bytes` string `[B]`, JPEG or PNG files of any sizes, which are turned upright and brought to
the learner's squares as its test images were. It returns `class_ids`, `class_names` and `probabilities` as `serve`
does, the likeliest classes (5 at most) as `top_class_ids` int64, `top_class_names` string and `top_probabilities`
float32 `[B, k]`, and `errors` string `[B]`: empty, or why an image cannot be read. Of such an image the ids are -1,
the names empty and the probabilities 0; the others are answered. It is there where images are squares of 1 or 3
channels.

`classes` takes nothing and returns `class_ids` and `class_names` `[num_classes]`, what the columns of `probabilities`
stand for, and `resized_side` int32 `[]`, to which the shorter side of images is brought before the centre square is
cut out.

`names` takes `columns` int64 `[B]`, numbers of columns of `probabilities`, and returns `class_ids` and `class_names`
`[B]` of them, -1 and the empty name where there is no such column. It says what `classes` says to those who ask
TensorFlow Serving in JSON, which knows no request without an input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from mnemonics_tf.data import pixels
from mnemonics_tf.data.types import PixelRange
from mnemonics_tf.models.classifier import Classifier, ClassifierFactory
from mnemonics_tf.models.heads import cosines
from mnemonics_tf.serving import encoded, warm_up

_TOP = 5  # classes that `serve_jpeg` names of each image


def export_saved_model(
    folder: str,
    model: Classifier,
    factory: ClassifierFactory,
    pixel_range: PixelRange,
    class_ids: Sequence[int],
    class_names: Sequence[str],
    means: np.ndarray | None = None,
    resized_side: int | None = None,
) -> None:
    """Writes a SavedModel with the four endpoints, and the requests that TensorFlow Serving warms it up by.

    Args:
      folder: the folder that the SavedModel is written to.
      model: the network, which is copied and not changed.
      factory: the factory that can build such a network; it knows the shape of images.
      pixel_range: how pixels 0..255 are normalised to be the network's input.
      class_ids: the data set's id of the class of each output, `[num_classes]`.
      class_names: the name of the class of each output, `[num_classes]`.
      means: mean of each class's exemplars, `[num_classes, d]` of length 1, to predict by the nearest of them. None,
        the default, to predict by the head.
      resized_side: pixels to which the shorter side of images from files is brought before the centre square is cut
        out; None, the default, for the side of the square.
    """
    # A copy outside every strategy: mirrored variables would tie the file to this machine's devices.
    copy = factory.copy(model)
    ids, names = tf.constant(list(class_ids), tf.int64), tf.constant(list(class_names))
    height, width, channels = factory.image_shape
    side = resized_side or height
    images = tf.TensorSpec([None, height, width, channels], tf.uint8, name="images")
    answer = tf.function(_classification(copy, pixel_range, ids, names, means), [images], autograph=False)

    endpoints = {"serve": answer}
    requests = [("serve", {"images": tf.zeros([1, height, width, channels], tf.uint8)})]
    if height == width and channels in (1, 3):
        contents = tf.TensorSpec([None], tf.string, name="image_bytes")
        of_files = _classification_of_files(answer, encoded.decoder(factory.image_shape, side), ids, names)
        endpoints["serve_jpeg"] = tf.function(of_files, [contents], autograph=False)
        picture = tf.io.encode_jpeg(tf.zeros([height, width, channels], tf.uint8))
        requests.append(("serve_jpeg", {"image_bytes": picture[None]}))
    told = {"class_ids": ids, "class_names": names, "resized_side": tf.constant(side)}
    endpoints["classes"] = tf.function(lambda: told, [], autograph=False)
    columns = tf.TensorSpec([None], tf.int64, name="columns")
    endpoints["names"] = tf.function(_names(ids, names), [columns], autograph=False)
    _write(folder, endpoints, copy)
    warm_up.write(folder, requests)


def _write(folder: str, endpoints: dict[str, tf.types.experimental.PolymorphicFunction], model: Classifier) -> None:
    """Writes a SavedModel whose endpoints are signatures and attributes, the first of them the default signature.

    Keras's `ExportArchive` writes the same in 1.6 times the time: for every Keras model that it tracks, TensorFlow
    traces a signature that nobody asked for.
    """
    module = tf.Module()
    module.network = [variable.value for variable in model.variables]
    for name, function in endpoints.items():
        setattr(module, name, function)
    signatures = {name: function.get_concrete_function() for name, function in endpoints.items()}
    signatures["serving_default"] = signatures[next(iter(signatures))]
    tf.saved_model.save(module, folder, signatures)


def _classification(
    model: Classifier, pixel_range: PixelRange, ids: tf.Tensor, names: tf.Tensor, means: np.ndarray | None
) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """The endpoint `serve`."""

    def serve(images: tf.Tensor) -> dict[str, tf.Tensor]:
        # Convolutions refuse a batch without images: one of zeros takes its place, and is left out of the answer.
        count = tf.shape(images)[0]
        images = tf.pad(images, [[0, tf.cast(count == 0, tf.int32)], [0, 0], [0, 0], [0, 0]])
        outputs = model(pixels.normalise(images, pixel_range), training=False)
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

    return serve


def _classification_of_files(
    serve: Callable[[tf.Tensor], dict[str, tf.Tensor]],
    decode: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
    ids: tf.Tensor,
    names: tf.Tensor,
) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """The endpoint `serve_jpeg`, which asks `serve`."""

    def serve_jpeg(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        images, errors = decode(image_bytes)
        count = tf.size(errors)
        is_read = tf.equal(errors, "")[:, None]
        probabilities = tf.where(is_read, serve(images)["probabilities"][:count], 0.0)
        top, best = tf.math.top_k(probabilities, min(_TOP, len(names)))
        top_ids, top_names = tf.where(is_read, tf.gather(ids, best), -1), tf.where(is_read, tf.gather(names, best), "")
        return {
            "class_ids": top_ids[:, 0],
            "class_names": top_names[:, 0],
            "probabilities": probabilities,
            "top_class_ids": top_ids,
            "top_class_names": top_names,
            "top_probabilities": top,
            "errors": errors,
        }

    return serve_jpeg


def _names(ids: tf.Tensor, names: tf.Tensor) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """The endpoint `names`."""

    def names_of(columns: tf.Tensor) -> dict[str, tf.Tensor]:
        is_there = (columns >= 0) & (columns < len(ids))
        columns = tf.where(is_there, columns, 0)
        return {
            "class_ids": tf.where(is_there, tf.gather(ids, columns), -1),
            "class_names": tf.where(is_there, tf.gather(names, columns), ""),
        }

    return names_of
