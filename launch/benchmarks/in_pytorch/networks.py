"""The networks of mnemonics_tf.models, layer for layer and under the same names: weights can be carried over."""

from __future__ import annotations

import inputs
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn


class ConvNorm(nn.Module):
    """Convolution, zero-padded by half the kernel, and batch norm."""

    def __init__(self, inputs_width: int, width: int, kernel_size: int, stride: int):
        super().__init__()
        self.conv = nn.Conv2d(inputs_width, width, kernel_size, stride, kernel_size // 2, bias=False)
        self.norm = nn.BatchNorm2d(width)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x))


class Block(nn.Module):
    """Basic block of a residual network."""

    def __init__(self, inputs_width: int, width: int, stride: int, last_relu: bool):
        super().__init__()
        self.a = ConvNorm(inputs_width, width, 3, stride)
        self.b = ConvNorm(width, width, 3, 1)
        same_shape = stride == 1 and inputs_width == width
        self.shortcut = None if same_shape else ConvNorm(inputs_width, width, 1, stride)
        self.last_relu = last_relu

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.b(F.relu(self.a(x))) + (x if self.shortcut is None else self.shortcut(x))
        return F.relu(y) if self.last_relu else y


class Network(nn.Module):
    """Residual network: images `[B, C, H, W]` to logits, by a cosine head or, `linear`, by an ordinary one."""

    def __init__(self, blocks: tuple[int, ...], num_classes: int = inputs.NUM_CLASSES, linear: bool = False):
        super().__init__()
        self.stem = ConvNorm(3, inputs.WIDTHS[0], 3, 1)
        before = inputs.WIDTHS[0]
        self.blocks = nn.ModuleDict()
        for stage, (count, width) in enumerate(zip(blocks, inputs.WIDTHS, strict=True)):
            for block in range(count):
                is_last = stage == len(blocks) - 1 and block == count - 1
                stride = 2 if stage > 0 and block == 0 else 1
                self.blocks[f"stage{stage}_block{block}"] = Block(before, width, stride, linear or not is_last)
                before = width
        self.linear = nn.Linear(before, num_classes) if linear else None
        if not linear:
            self.kernel = nn.Parameter(torch.empty(num_classes, before).uniform_(-(before**-0.5), before**-0.5))
            self.eta = nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.embed(x))

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        """Images to embeddings `[B, d]`."""
        x = F.relu(self.stem(x))
        for block in self.blocks.values():
            x = block(x)
        return x.mean((2, 3))

    def head(self, features: torch.Tensor) -> torch.Tensor:
        """Embeddings to logits `[B, classes]`."""
        if self.linear is not None:
            return self.linear(features)
        return self.eta * F.linear(F.normalize(features), F.normalize(self.kernel))

    @torch.no_grad()
    def take_weights(self, weights: dict[str, np.ndarray]) -> None:
        """Copies the weights of the Keras model, which are named by their paths."""

        def copy(target: torch.Tensor, name: str, axes: tuple[int, ...] | None = None) -> None:
            target.copy_(torch.from_numpy(np.transpose(weights[name], axes)))

        for path, layer in self.named_modules():
            if isinstance(layer, ConvNorm):
                name = path.removeprefix("blocks.").replace(".", "_")
                copy(layer.conv.weight, f"{name}/kernel", (3, 2, 0, 1))
                copy(layer.norm.weight, f"{name}/norm/gamma")
                copy(layer.norm.bias, f"{name}/norm/beta")
                copy(layer.norm.running_mean, f"{name}/norm/moving_mean")
                copy(layer.norm.running_var, f"{name}/norm/moving_variance")
        copy(self.kernel, "head/new_kernel")
        copy(self.eta, "head/eta")


def build(blocks: tuple[int, ...], batch_norm: str = "batch") -> Network:
    """A network with random weights, that has the mode its batch norm asks for."""
    torch.manual_seed(0)
    return Network(blocks).train(batch_norm == "batch")


def batch(count: int, seed: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalised images `[count, C, H, W]` and class indices `[count]`."""
    images, labels = inputs.labelled_images(count, seed)
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().to(dtype), torch.from_numpy(labels)
