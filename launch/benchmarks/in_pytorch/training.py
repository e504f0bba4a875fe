"""Training steps of the model level, as a good user writes them in PyTorch: on one batch that never changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import inputs
import torch
import torch.nn.functional as F  # noqa: N812
from harness.turns import Turns
from torch import nn

from in_pytorch.forms import compiled, laid_out, memory_format
from in_pytorch.networks import Network, batch, build


def plain_step(start: Callable[[], Turns], layout: str = "NCHW", compile: bool = False) -> None:
    """Steps without a teacher: cross-entropy, SGD with momentum and weight decay."""
    network = laid_out(build(inputs.RESNET32), layout)
    images, labels = batch(inputs.TRAINING_BATCH, seed=0)
    loss_of = compiled(lambda images, labels: F.cross_entropy(network(images), labels), compile)
    serve_steps(start, loss_of, network.parameters(), images.contiguous(memory_format=memory_format(layout)), labels)


def method_step(start: Callable[[], Turns], method: str, layout: str = "NCHW", compile: bool = False) -> None:
    """Steps of a later phase: teacher, student, the method's losses. `method` is `lucir` or `icarl`."""
    teacher, student = later_networks(method, layout)
    images, _ = batch(inputs.TRAINING_BATCH, seed=0)
    labels = torch.from_numpy(inputs.step_labels()[: inputs.TRAINING_BATCH])
    loss_of = compiled(LOSSES[method](teacher, student), compile)
    trained = [param for param in student.parameters() if param.requires_grad]
    serve_steps(start, loss_of, trained, images.contiguous(memory_format=memory_format(layout)), labels)


class GrownHead(nn.Module):
    """A cosine head whose weights of old classes stay fixed, as LUCIR has it."""

    def __init__(self, old: torch.Tensor, num_new: int):
        super().__init__()
        self.register_buffer("old", old.detach().clone())
        self.new = nn.Parameter(torch.randn(num_new, old.shape[1]) * 0.1)
        self.eta = nn.Parameter(torch.ones(()))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Embeddings to cosines with all classes."""
        return F.linear(F.normalize(features), F.normalize(torch.cat([self.old, self.new])))


class Student(nn.Module):
    """A network and the head of a later phase."""

    def __init__(self, network: Network, head: nn.Module):
        super().__init__()
        self.network, self.head = network, head

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings, and what the head says of them."""
        features = self.network.embed(images)
        return features, self.head(features)


def later_networks(method: str, layout: str, blocks: tuple[int, ...] = inputs.RESNET32) -> tuple[Network, Student]:
    """The network before a phase, at inference and without gradients, and the one that is trained."""
    torch.manual_seed(0)
    linear = method == "icarl"
    teacher, network = (Network(blocks, inputs.OLD_CLASSES, linear) for _ in range(2))
    network.load_state_dict(teacher.state_dict())
    width = inputs.WIDTHS[-1]
    if linear:
        head: nn.Module = nn.Linear(width, inputs.OLD_CLASSES + inputs.NEW_CLASSES)
    else:
        head = GrownHead(teacher.kernel, inputs.NEW_CLASSES)
        del network.kernel, network.eta
    network.linear = None
    student = Student(network, head)
    return laid_out(teacher.eval().requires_grad_(False), layout), laid_out(student.train(), layout)


def _lucir(teacher: Network, student: Student) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    weight = inputs.LUCIR_WEIGHT * (inputs.OLD_CLASSES / inputs.NEW_CLASSES) ** 0.5

    def loss(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            before = teacher.embed(images)
        features, scores = student(images)
        turned = weight * (1 - F.cosine_similarity(features, before)).mean()
        own = scores.gather(1, labels[:, None])
        rivals = scores[:, inputs.OLD_CLASSES :].topk(inputs.LUCIR_NEGATIVES).values
        old = (labels < inputs.OLD_CLASSES).to(scores.dtype)
        ranked = (F.relu(inputs.LUCIR_MARGIN - own + rivals).mean(1) * old).sum() / old.sum().clamp(min=1)
        return F.cross_entropy(student.head.eta * scores, labels) + turned + ranked

    return loss


def _icarl(teacher: Network, student: Student) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    weight, temperature = inputs.ICARL_WEIGHT, inputs.ICARL_TEMPERATURE

    def loss(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            before = teacher(images)
        _, logits = student(images)
        softened = F.softmax(before / temperature, dim=1)
        kept = F.cross_entropy(logits[:, : inputs.OLD_CLASSES] / temperature, softened)
        return weight * F.cross_entropy(logits, labels) + (1 - weight) * kept

    return loss


LOSSES = {"lucir": _lucir, "icarl": _icarl}


def optimizer_of(params: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """SGD with the rates of both sides."""
    return torch.optim.SGD(params, inputs.TRAINING_RATE, inputs.TRAINING_MOMENTUM, weight_decay=inputs.TRAINING_DECAY)


def serve_steps(
    start: Callable[[], Turns],
    loss_of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    params: Iterable[nn.Parameter],
    images: torch.Tensor,
    labels: torch.Tensor,
) -> None:
    """So many steps a turn; the loss is read at their end."""
    optimizer = optimizer_of(params)

    def work() -> None:
        for _ in range(inputs.TRAINING_STEPS):
            optimizer.zero_grad()
            loss = loss_of(images, labels)
            loss.backward()
            optimizer.step()
        loss.item()

    start().serve(work)
