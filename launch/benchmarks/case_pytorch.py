"""One case of the benchmark in PyTorch, in a process of its own; turns.py says how it is talked to.

The network is that of mnemonics_tf.models, layer for layer and under the same names, so that weights can be carried
over. The meta-step unrolls the temporary training with `torch.func.functional_call` and keeps its graph. Memory is in
PyTorch's usual order: `channels_last` was no faster with frozen statistics, and slower with those of the batch.
"""

from __future__ import annotations

import platform
from collections.abc import Callable

import inputs
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
import turns
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
    """Residual network with a cosine head: images `[B, C, H, W]` to logits."""

    def __init__(self, blocks: tuple[int, ...]):
        super().__init__()
        self.stem = ConvNorm(3, inputs.WIDTHS[0], 3, 1)
        before = inputs.WIDTHS[0]
        self.blocks = nn.ModuleDict()
        for stage, (count, width) in enumerate(zip(blocks, inputs.WIDTHS, strict=True)):
            for block in range(count):
                is_last = stage == len(blocks) - 1 and block == count - 1
                stride = 2 if stage > 0 and block == 0 else 1
                self.blocks[f"stage{stage}_block{block}"] = Block(before, width, stride, not is_last)
                before = width
        self.kernel = nn.Parameter(torch.empty(inputs.NUM_CLASSES, before).uniform_(-(before**-0.5), before**-0.5))
        self.eta = nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.stem(x))
        for block in self.blocks.values():
            x = block(x)
        return self.eta * F.linear(F.normalize(x.mean((2, 3))), F.normalize(self.kernel))

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


def build(blocks: tuple[int, ...], batch_norm: str) -> Network:
    """A network with random weights, that has the mode its batch norm asks for."""
    torch.manual_seed(0)
    return Network(blocks).train(batch_norm == "batch")


def batch(count: int, seed: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalised images `[count, C, H, W]` and class indices `[count]`."""
    images, labels = inputs.labelled_images(count, seed)
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().to(dtype), torch.from_numpy(labels)


def meta_gradient(
    network: Network,
    exemplars: tuple[torch.Tensor, torch.Tensor],
    outer: tuple[torch.Tensor, torch.Tensor],
    inner_steps: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Outer loss after gradient descent on all exemplars, and its gradient with respect to them, `[n, C, H, W]`."""
    buffers = dict(network.named_buffers())
    params = {name: param.detach().clone().requires_grad_() for name, param in network.named_parameters()}
    images, labels = exemplars
    images = images.clone().requires_grad_()

    def loss(params: dict[str, torch.Tensor], images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(torch.func.functional_call(network, (params, buffers), (images,)), labels)

    for _ in range(inner_steps):
        gradients = torch.autograd.grad(loss(params, images, labels), list(params.values()), create_graph=True)
        steps = zip(params.items(), gradients, strict=True)
        params = {name: param - inputs.INNER_RATE * gradient for (name, param), gradient in steps}
    outer_loss = loss(params, *outer)
    (by_images,) = torch.autograd.grad(outer_loss, images)
    return outer_loss.detach().numpy(), by_images.numpy()


def meta_step(start: Callable[[], turns.Turns], inner_steps: int, batch_norm: str = "frozen", repeats: int = 1) -> None:
    """One gradient with respect to the exemplars a turn."""
    network = build(inputs.RESNET20, batch_norm)
    exemplars, outer = batch(inputs.EXEMPLARS, seed=0), batch(inputs.OUTER_BATCH, seed=1)
    start().serve(lambda: meta_gradient(network, exemplars, outer, inner_steps), repeats)


def gradient(start: Callable[[], turns.Turns], count: int, batch_norm: str = "frozen", repeats: int = 1) -> None:
    """The gradient of a batch of `count` with respect to the parameters."""
    network = build(inputs.RESNET20, batch_norm)
    params = list(network.parameters())
    images, labels = batch(count, seed=0)

    def work() -> None:
        torch.autograd.grad(F.cross_entropy(network(images), labels), params)[-1].numpy()

    start().serve(work, repeats)


def training(start: Callable[[], turns.Turns]) -> None:
    """Steps of SGD with momentum and weight decay on one batch."""
    network = build(inputs.RESNET32, "batch")
    optimizer = torch.optim.SGD(
        network.parameters(), inputs.TRAINING_RATE, inputs.TRAINING_MOMENTUM, weight_decay=inputs.TRAINING_DECAY
    )
    images, labels = batch(inputs.TRAINING_BATCH, seed=0)

    def work() -> None:
        for _ in range(inputs.TRAINING_STEPS):
            optimizer.zero_grad()
            loss = F.cross_entropy(network(images), labels)
            loss.backward()
            optimizer.step()
        loss.item()

    start().serve(work)


def same_numbers(start: Callable[[], turns.Turns], file: str) -> None:
    """Computes what the TensorFlow side left in `file` once more; tells the relative differences.

    Those in float32 mean little: where a ReLU's input is about zero, rounding decides whether a derivative passes. So
    PyTorch's float32 is compared with its own float64, too.
    """
    turn = start()
    arrays = dict(np.load(file))
    differences = {}
    for batch_norm in inputs.BATCH_NORMS:
        own = {}
        for dtype in inputs.CHECKED_DTYPES:
            network = build(inputs.RESNET20, batch_norm)
            network.take_weights(arrays)
            network.to(getattr(torch, dtype))
            exemplars = batch(inputs.CHECKED_EXEMPLARS, 0, getattr(torch, dtype))
            outer = batch(inputs.CHECKED_OUTER_BATCH, 1, getattr(torch, dtype))
            loss, by_images = meta_gradient(network, exemplars, outer, inputs.CHECKED_STEPS)
            own[dtype] = {"loss": loss, "gradient": by_images.transpose(0, 2, 3, 1)}
            for name, value in own[dtype].items():
                difference = relative_difference(arrays[f"{dtype}/{batch_norm}/{name}"], value)
                differences[f"{name}, {batch_norm} statistics, {dtype}"] = difference
        differences[f"gradient, {batch_norm} statistics, PyTorch's float32 against its float64"] = relative_difference(
            own["float32"]["gradient"], own["float64"]["gradient"]
        )
    turn.done(differences=differences)


def relative_difference(value: np.ndarray, reference: np.ndarray) -> float:
    """Length of the difference over the length of the reference."""
    return float(np.linalg.norm(value - reference) / np.linalg.norm(reference))


def about() -> dict[str, str | int]:
    """Versions, and the number of threads."""
    return {"python": platform.python_version(), "pytorch": torch.__version__, "threads": torch.get_num_threads()}


if __name__ == "__main__":
    turns.run_case(
        {"meta_step": meta_step, "gradient": gradient, "training": training, "same_numbers": same_numbers}, about
    )
