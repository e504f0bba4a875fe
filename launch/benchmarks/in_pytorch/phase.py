"""A whole later phase of LUCIR as a good user writes it in PyTorch: imprinting, training, herding, evaluation."""

from __future__ import annotations

import copy
from collections.abc import Callable

import inputs
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from harness.turns import Turns

from in_pytorch.forms import laid_out, memory_format
from in_pytorch.inference import chosen_of, passed_through
from in_pytorch.networks import Network
from in_pytorch.training import LOSSES, Student, later_networks, optimizer_of


def later_phase(start: Callable[[], Turns], layout: str = "NCHW") -> None:
    """The phase anew in each turn, always from the same network."""
    teacher, student = later_networks("lucir", layout, inputs.RESNET20)
    data = inputs.phase_images()
    start().serve(lambda: _phase(teacher, laid_out(copy.deepcopy(student), layout), data, layout))


def _phase(teacher: Network, student: Student, data: dict[str, np.ndarray], layout: str) -> None:
    is_new = data["labels"] >= inputs.OLD_CLASSES
    new_images, new_labels = data["images"][is_new], data["labels"][is_new]
    with torch.no_grad():
        student.head.new.copy_(torch.stack(_means(teacher, new_images, new_labels, layout)))
    _train(teacher, student, data, layout)
    student.eval()
    (features,) = passed_through(lambda images: (student.network.embed(images),), new_images, layout)
    units = F.normalize(torch.from_numpy(features))
    for label in np.unique(new_labels):
        chosen_of(units[torch.from_numpy(new_labels == label)])
    _evaluate(student, data, layout)


def _means(network: Network, images: np.ndarray, labels: np.ndarray, layout: str) -> list[torch.Tensor]:
    """The mean direction of each new class's embeddings, which its weights start from."""
    (features,) = passed_through(lambda batch: (network.embed(batch),), images, layout)
    units = F.normalize(torch.from_numpy(features))
    return [units[torch.from_numpy(labels == label)].mean(0) for label in np.unique(labels)]


def _train(teacher: Network, student: Student, data: dict[str, np.ndarray], layout: str) -> None:
    """Some epochs with random crops of padded images, and mirrored ones."""
    trained = [param for param in student.parameters() if param.requires_grad]
    optimizer, loss_of = optimizer_of(trained), LOSSES["lucir"](teacher, student)
    images = torch.from_numpy(data["images"]).permute(0, 3, 1, 2)
    padded, labels = F.pad(images, (4, 4, 4, 4)), torch.from_numpy(data["labels"])
    for _ in range(inputs.PHASE_EPOCHS):
        for rows in torch.randperm(len(labels)).split(inputs.TRAINING_BATCH):
            augmented = _augmented(padded[rows]).contiguous(memory_format=memory_format(layout))
            optimizer.zero_grad()
            loss_of((augmented / 255 - 0.5) / 0.2, labels[rows]).backward()
            optimizer.step()


def _augmented(padded: torch.Tensor) -> torch.Tensor:
    """A random window of each image, every other one mirrored; by one look-up for the whole batch."""
    count, size = len(padded), inputs.IMAGE_SIZE
    rows, columns = (torch.randint(0, 9, (count, 1)) + torch.arange(size) for _ in range(2))
    columns = torch.where(torch.rand(count, 1) < 0.5, columns, columns.flip(1))
    # Indices with a slice between them put the channels last: [B, H, W, C].
    windows = padded[torch.arange(count)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return windows.permute(0, 3, 1, 2)


def _evaluate(student: Student, data: dict[str, np.ndarray], layout: str) -> None:
    """Both classifiers: the means are those of the exemplars and of their mirror images."""
    memory = data["images"][data["labels"] < inputs.OLD_CLASSES]
    for mirrored in (memory, memory[:, :, ::-1].copy()):
        passed_through(lambda images: (student.network.embed(images),), mirrored, layout)
    passed_through(student, data["test_images"], layout)
