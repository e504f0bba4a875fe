"""Residual networks for every image size, from one builder."""

from __future__ import annotations

import dataclasses

from mnemonics_tf import checks
from mnemonics_tf.data.types import PixelRange
from mnemonics_tf.system.lazy import keras

STEMS = ("3x3", "7x7")
_FORMAT = "channels_last"  # of this package, whatever Keras is configured to take for the default


@dataclasses.dataclass(frozen=True)
class ResNet:
    """Which residual network to build. It maps images `[B, H, W, C]` to embeddings `[B, d]`.

    The defaults are ResNet-32, the paper's network for CIFAR-100 (Section 7.1); its ResNet-18 for ImageNet stands in
    `configs/datasets/imagenet.gin`.

    Attributes:
      blocks: number of basic blocks (two 3 x 3 convolutions each) of every stage: (5, 5, 5) is ResNet-32, (3, 3, 3)
        ResNet-20, (2, 2, 2, 2) ResNet-18. (5, 5, 5) by default.
      widths: channels of every stage, as many numbers as `blocks` has; the first block of each later stage halves the
        resolution. (16, 32, 64) by default.
      stem: the first layers: `3x3` keeps the resolution, `7x7` quarters it by stride 2 and a max pool. `3x3` by
        default, for CIFAR's 32 pixels; ImageNet's 224 want `7x7`.
      embedding_dim: width d of a dense layer after the pooling. None by default: there is no such layer, and d is the
        last width.
      last_relu: whether the last block ends in a ReLU. None by default: it does with a linear head, and does not with
        the other heads, for which embeddings need both signs.

    Raises:
      UsageError: a value is out of its range, or `blocks` and `widths` differ in length.
    """

    blocks: tuple[int, ...] = (5, 5, 5)
    widths: tuple[int, ...] = (16, 32, 64)
    stem: str = "3x3"
    embedding_dim: int | None = None
    last_relu: bool | None = None

    def __post_init__(self):
        is_sequence = isinstance(self.blocks, tuple | list) and isinstance(self.widths, tuple | list)
        if not is_sequence or len(self.blocks) != len(self.widths) or not self.blocks:
            raise checks.UsageError(
                f"ResNet.blocks = {self.blocks} and ResNet.widths = {self.widths}: "
                "expected one number of blocks and one width for each stage."
            )
        for index, (blocks, width) in enumerate(zip(self.blocks, self.widths, strict=True)):
            checks.check_positive_integer(**{f"ResNet.blocks[{index}]": blocks, f"ResNet.widths[{index}]": width})
        checks.check_choice("ResNet.stem", self.stem, STEMS)
        if self.embedding_dim is not None:
            checks.check_positive_integer(**{"ResNet.embedding_dim": self.embedding_dim})
        if self.last_relu is not None:
            checks.check_bool(**{"ResNet.last_relu": self.last_relu})

    @property
    def stage_outputs(self) -> tuple[str, ...]:
        """Names of the layers that each stage ends with, before their ReLU."""
        return tuple(f"stage{stage}_block{blocks - 1}_add" for stage, blocks in enumerate(self.blocks))

    @property
    def pixel_range(self) -> PixelRange | None:
        """How images are normalised: None, by the statistics of the first ones."""
        return None

    def check_image_shape(self, image_shape: tuple[int, int, int]) -> None:
        """Raises UsageError if images `(H, W, C)` are too small for the stages."""
        halvings = len(self.widths) - 1 + (2 if self.stem == "7x7" else 0)
        if min(image_shape[:2]) < 2**halvings:
            raise checks.UsageError(
                f"Images of {image_shape[0]} x {image_shape[1]} are too small for a ResNet that halves them {halvings} "
                "times: give ResNet fewer stages (blocks, widths) or the stem '3x3'."
            )

    def multiply_adds(self, image_shape: tuple[int, int, int]) -> int:
        """Products of a weight and a value that one image `(H, W, C)` takes on its way forward."""
        height, width, channels = image_shape
        kernel, first = (7, self.widths[0]) if self.stem == "7x7" else (3, self.widths[0])
        if self.stem == "7x7":
            height, width = -(-height // 2), -(-width // 2)
        total = height * width * kernel**2 * channels * first
        if self.stem == "7x7":
            height, width = -(-height // 2), -(-width // 2)
        channels = first
        for stage, (blocks, out) in enumerate(zip(self.blocks, self.widths, strict=True)):
            if stage:
                height, width = -(-height // 2), -(-width // 2)
            shortcut = channels * out if stage or channels != out else 0
            total += height * width * (9 * channels * out + 9 * out * out * (2 * blocks - 1) + shortcut)
            channels = out
        return total + channels * (self.embedding_dim or 0)

    def build(
        self,
        image_shape: tuple[int, int, int],
        scale_form: str | None = None,
        dtype: str | None = None,
        signed_features: bool = True,
    ) -> keras.Model:
        """A new network with random weights.

        Args:
          image_shape: shape of the images, `(H, W, C)`.
          scale_form: the scale and shift of weight transfer (Eq. 11), `per_neuron` or `per_kernel`. None by default,
            for a network without.
          dtype: Keras's dtype or dtype policy of all layers, such as `mixed_bfloat16`. None by default, for Keras's
            own, float32.
          signed_features: whether the head wants embeddings with both signs, so that the last block has no ReLU; the
            setting `last_relu` overrules it. True by default, as of cosine heads.

        Returns:
          A Keras model of images `[B, H, W, C]`, normalised, with output `[B, d]`.

        Raises:
          UsageError: the image is too small for the stages.
        """
        self.check_image_shape(image_shape)
        make = _Maker(scale_form, dtype)
        last_relu = not signed_features if self.last_relu is None else self.last_relu
        # With mixed precision images come as what the weights are.
        inputs = keras.Input(image_shape, dtype=dtype and keras.DTypePolicy(dtype).variable_dtype, name="images")
        if self.stem == "3x3":
            x = make.conv_norm(inputs, self.widths[0], 3, 1, "stem")
        else:
            x = make.conv_norm(inputs, self.widths[0], 7, 2, "stem")
        x = keras.layers.ReLU(dtype=dtype, name="stem_relu")(x)
        if self.stem == "7x7":
            x = keras.layers.ZeroPadding2D(1, data_format=_FORMAT, dtype=dtype, name="stem_pad")(x)
            x = keras.layers.MaxPooling2D(3, 2, data_format=_FORMAT, dtype=dtype, name="stem_pool")(x)
        for stage, (blocks, width) in enumerate(zip(self.blocks, self.widths, strict=True)):
            for block in range(blocks):
                relu = last_relu or stage < len(self.blocks) - 1 or block < blocks - 1
                strides = 2 if stage > 0 and block == 0 else 1
                x = make.basic_block(x, width, strides, f"stage{stage}_block{block}", relu)
        x = keras.layers.GlobalAveragePooling2D(data_format=_FORMAT, dtype=dtype, name="pool")(x)
        if self.embedding_dim is not None:
            from mnemonics_tf.models.layers import ScaleShiftDense  # needs Keras, and settings do not

            x = ScaleShiftDense(self.embedding_dim, scale_form, dtype=dtype, name="embedding")(x)
        return keras.Model(inputs, x, name="resnet")


@dataclasses.dataclass(frozen=True)
class _Maker:
    """Adds layers to a Keras graph, all with the same scale form and dtype."""

    scale_form: str | None
    dtype: str | None

    def conv_norm(self, x: keras.KerasTensor, width: int, kernel_size: int, strides: int, name: str):
        from mnemonics_tf.models.layers import ConvNorm

        return ConvNorm(width, kernel_size, strides, self.scale_form, dtype=self.dtype, name=name)(x)

    def basic_block(self, x: keras.KerasTensor, width: int, strides: int, name: str, relu: bool):
        shortcut = x
        if strides != 1 or x.shape[-1] != width:
            shortcut = self.conv_norm(x, width, 1, strides, f"{name}_shortcut")
        x = self.conv_norm(x, width, 3, strides, f"{name}_a")
        x = keras.layers.ReLU(dtype=self.dtype, name=f"{name}_a_relu")(x)
        x = self.conv_norm(x, width, 3, 1, f"{name}_b")
        x = keras.layers.Add(dtype=self.dtype, name=f"{name}_add")([x, shortcut])
        return keras.layers.ReLU(dtype=self.dtype, name=f"{name}_relu")(x) if relu else x
