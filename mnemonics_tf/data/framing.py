"""Checks of the settings of data sources: sides of images, padding, splits, draws of classes."""

from __future__ import annotations

from mnemonics_tf import checks

TEST_SHARE = 0.2  # of each class, where a data set is not split
SPLIT_SEED = 0
_PADDING = 4  # pixels


def check_sides(source: str, image_size: int | None, resized_side: int | None) -> None:
    """Checks the sides to which a data source brings its images.

    Args:
      source: its name in bindings, such as `folder`.
      image_size: side of the square images, in pixels; None leaves images as they are.
      resized_side: side to which the shorter one is brought before the square is cut out; None for `image_size`.

    Raises:
      UsageError: a side is no whole number above 0, or the square does not fit in what it is cut out of.
    """
    if image_size is not None:
        checks.check_positive_integer(**{f"{source}.image_size": image_size})
    if resized_side is None:
        return
    checks.check_positive_integer(**{f"{source}.resized_side": resized_side})
    if image_size is None or resized_side < image_size:
        raise checks.UsageError(
            f"{source}.resized_side = {resized_side}: expected at least {source}.image_size = {image_size}, as a "
            "square of that size is cut out. Raise it and set both, or leave it out."
        )


def padding(source: str, crop_padding: int | None, resized_crop: bool) -> int:
    """The padding before random crops of training images, in pixels.

    Args:
      source: name of the data source in bindings.
      crop_padding: what the user set; None for 4, the padding of CIFAR's published results, or for 0 with
        `resized_crop`.
      resized_crop: whether random windows take the place of padding and cropping.

    Raises:
      UsageError: it is no whole number of at least 0, or above 0 with `resized_crop`.
    """
    if crop_padding is None:
        return 0 if resized_crop else _PADDING
    checks.check_non_negative_integer(**{f"{source}.crop_padding": crop_padding})
    if crop_padding and resized_crop:
        raise checks.UsageError(
            f"{source}.crop_padding = {crop_padding} with {source}.resized_crop = True: random windows take the place "
            "of padding and cropping. Leave one of them out."
        )
    return crop_padding


def check_split(source: str, test_share: float, split_seed: int) -> None:
    """Raises UsageError unless the share lies between 0 and 1 and the seed is a whole number of at least 0."""
    checks.check_positive(**{f"{source}.test_share": test_share})
    checks.check_fraction(**{f"{source}.test_share": test_share})
    checks.check_non_negative_integer(**{f"{source}.split_seed": split_seed})


def check_draw(num_classes_drawn: int | None, draw_seed: int) -> None:
    """Raises UsageError unless the draw is a whole number of classes, or None, by a seed that NumPy takes."""
    if num_classes_drawn is not None:
        checks.check_positive_integer(**{"tfds.num_classes_drawn": num_classes_drawn})
    checks.check_legacy_seed(**{"tfds.draw_seed": draw_seed})
