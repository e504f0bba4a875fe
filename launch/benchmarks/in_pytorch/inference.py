"""Inference as a good user writes it in PyTorch: in inference mode, batch by batch, from pixels to NumPy."""

from __future__ import annotations

from collections.abc import Callable

import inputs
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from harness.turns import Turns

from in_pytorch.forms import compiled, laid_out, memory_format
from in_pytorch.networks import build


def evaluate(start: Callable[[], Turns], layout: str = "NCHW", compile: bool = False) -> None:
    """Predictions by the head and by the nearest mean, of as many images a turn as the project's case has."""
    network = laid_out(build(inputs.RESNET32, "frozen"), layout)
    pixels = inputs.pixels(inputs.EVALUATED_IMAGES, 0)
    means = F.normalize(torch.randn(inputs.NUM_CLASSES, inputs.WIDTHS[-1]))

    def predict(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = network.embed(images)
        return network.head(features).argmax(1), (F.normalize(features) @ means.T).argmax(1)

    function = compiled(predict, compile)
    start().serve(lambda: passed_through(function, pixels, layout))


def herding(start: Callable[[], Turns], layout: str = "NCHW") -> None:
    """Embeddings of all images, and of each class those whose mean comes nearest to the class's."""
    network = laid_out(build(inputs.RESNET20, "frozen"), layout)
    pixels = inputs.pixels(inputs.HERDED_IMAGES, 0)
    labels = torch.arange(len(pixels)) % inputs.HERDED_CLASSES

    def work() -> None:
        (features,) = passed_through(lambda images: (network.embed(images),), pixels, layout)
        units = F.normalize(torch.from_numpy(features))
        for label in range(inputs.HERDED_CLASSES):
            chosen_of(units[labels == label])

    start().serve(work)


def chosen_of(units: torch.Tensor) -> list[int]:
    """Herding's choice among the directions `[n, d]` of one class's images."""
    mean, total = units.mean(0), torch.zeros(units.shape[1])
    taken, chosen = torch.zeros(len(units), dtype=torch.bool), []
    for step in range(inputs.EXEMPLARS_A_CLASS):
        distances = (mean - (total + units) / (step + 1)).norm(dim=1).masked_fill(taken, torch.inf)
        chosen.append(int(distances.argmin()))
        taken[chosen[-1]] = True
        total += units[chosen[-1]]
    return chosen


@torch.inference_mode()
def passed_through(
    function: Callable[[torch.Tensor], tuple[torch.Tensor, ...]], pixels: np.ndarray, layout: str
) -> tuple[np.ndarray, ...]:
    """What a function of normalised images says of pixels `[n, H, W, C]` uint8, in their order."""
    found = []
    for start in range(0, len(pixels), inputs.EVALUATION_BATCH):
        # A permuted array of rows is in channels_last order already.
        images = torch.from_numpy(pixels[start : start + inputs.EVALUATION_BATCH]).permute(0, 3, 1, 2)
        images = ((images / 255 - 0.5) / 0.2).contiguous(memory_format=memory_format(layout))
        found.append([part.numpy() for part in function(images)])
    return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))
