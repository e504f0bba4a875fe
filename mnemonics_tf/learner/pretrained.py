"""Networks of `keras.applications` with weights from a file: what `mnemonics_tf.learn` begins with where it has one."""

from __future__ import annotations

import inspect
import os

from mnemonics_tf import checks
from mnemonics_tf.learner.defaults import BACKBONES
from mnemonics_tf.models.backbone import Backbone
from mnemonics_tf.system import files
from mnemonics_tf.system.lazy import keras

DEFAULT = "MobileNetV2"  # a fifth of ResNet50's time
SIDE = 96  # of its images where nothing is said, in pixels


def check(name: str | None, weights: str | None) -> None:
    """Tells, without Keras, what cannot be.

    Args:
      name: of a network; None for the default.
      weights: path of a file; None for none.

    Raises:
      UsageError: the network has no pretrained weights, or has them and none are given; or there is no such file.
    """
    if weights is None:
        if name is not None and name not in BACKBONES and name[:1].isupper():  # as all of keras.applications
            raise checks.UsageError(
                f"--backbone={name}: a model of keras.applications starts from pretrained weights. Give their file by "
                f"--weights, or one of {', '.join(BACKBONES)}."
            )
        return
    if name in BACKBONES:
        raise checks.UsageError(
            f"--weights with --backbone={name}: that network starts from nothing. Name the model of keras.applications "
            f"that the weights are of, such as --backbone={DEFAULT}."
        )
    files.check_given(**{"--weights": weights})
    if not os.path.isfile(os.path.expanduser(weights)):
        raise checks.UsageError(f"--weights = {weights}: there is no such file.")


def application(name: str, side: int, weights: str) -> Backbone:
    """A model of `keras.applications` without its classes, which starts from a file of weights.

    Args:
      name: such as `MobileNetV2`.
      side: of the square images, in pixels.
      weights: path of a file that `save_weights` of such a model has written, or that Keras offers as `notop`.

    Raises:
      UsageError: there is no such model, it does not take images of that size, or the weights do not fit.
    """
    models = {key: made for key, made in vars(keras.applications).items() if inspect.isfunction(made)}
    checks.check_choice("--backbone", name, sorted(models))
    try:
        # Its family, by which pixels are brought to the range that it expects, is told by the name.
        model = models[name](
            include_top=False, weights=None, input_shape=(side, side, 3), pooling="avg", name=name.lower()
        )
    except ValueError as error:
        raise checks.UsageError(f"--backbone={name} with --size={side}: {str(error).splitlines()[0]}") from error
    return Backbone(model, weights=weights)
