"""Meta-steps that unroll the temporary training with `torch.func.functional_call` and keep its graph.

Memory is in PyTorch's usual order: `channels_last` was no faster with frozen statistics, and slower with those of the
batch.
"""

from __future__ import annotations

from collections.abc import Callable

import inputs
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from harness.turns import Turns

from in_pytorch.networks import Network, batch, build


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


def meta_step(start: Callable[[], Turns], inner_steps: int, batch_norm: str = "frozen") -> None:
    """One gradient with respect to the exemplars a turn."""
    network = build(inputs.RESNET20, batch_norm)
    exemplars, outer = batch(inputs.EXEMPLARS, seed=0), batch(inputs.OUTER_BATCH, seed=1)
    start().serve(lambda: meta_gradient(network, exemplars, outer, inner_steps))


def gradient(start: Callable[[], Turns], count: int, batch_norm: str = "frozen") -> None:
    """The gradient of a batch of `count` with respect to the parameters."""
    network = build(inputs.RESNET20, batch_norm)
    params = list(network.parameters())
    images, labels = batch(count, seed=0)

    def work() -> None:
        torch.autograd.grad(F.cross_entropy(network(images), labels), params)[-1].numpy()

    start().serve(work)
