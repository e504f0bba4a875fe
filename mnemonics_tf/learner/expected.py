"""How long learning will take, told before it begins: images that go through the network, and the device's speed.

The speed is that of a convolution, measured in a moment. Which share of it a network reaches, and what tracing takes,
was measured with this project's networks (`docs/measured_facts.md`). It is meant to tell minutes from hours.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence

from mnemonics_tf.learner.settings import Settings
from mnemonics_tf.memory.optimising.chunks import num_chunks
from mnemonics_tf.memory.optimising.settings import ExemplarLevel
from mnemonics_tf.memory.settings import Memory
from mnemonics_tf.system.lazy import tf

# Forward passes that one image costs: forward and backward; and a step of the inner training walked back, where second
# derivatives are taken by a tape over a tape.
_TRAINED, _WALKED_BACK = 3.0, 7.0
_SHARE_OF_SPEED = 0.3  # of a bare convolution's multiply-adds that a network reaches
_TRACED_SECONDS = 20.0  # of a phase, for its functions
# What codecs leave of CIFAR-100's images at quality 90 (`docs/measured_facts.md`); of photographs they leave less.
_CODED = {"raw": 1.0, "png": 0.7, "webp": 0.18, "jpeg": 0.2, "source": 0.2}
_TRIALS = 3


@dataclasses.dataclass(frozen=True)
class Load:
    """What a phase has to do.

    Attributes:
      num_images: training images that arrive.
      num_old: classes that are known before.
      num_new: classes that arrive.
      num_kept: exemplars of the known classes.
      num_again: known classes of which more images arrive; none by default.
    """

    num_images: int
    num_old: int
    num_new: int
    num_kept: int
    num_again: int = 0

    @property
    def num_chosen(self) -> int:
        """Classes whose exemplars are chosen now: the new ones, and those of which more images arrive."""
        return self.num_new + self.num_again

    @property
    def num_left(self) -> int:
        """Known classes whose exemplars stay, and may be adjusted."""
        return self.num_old - self.num_again


def loads(
    settings: Settings, image_shape: tuple[int, int, int], phase_sizes: Sequence[int], class_sizes: Sequence[int]
) -> list[Load]:
    """What each of some planned phases has to do.

    Args:
      settings: of the learner.
      image_shape: `(H, W, C)`.
      phase_sizes: number of new classes in each phase.
      class_sizes: training images of each class, by index.
    """
    found, known = [], 0
    for new in phase_sizes:
        kept = sum(min(size, _kept_per_class(settings.memory, image_shape, known)) for size in class_sizes[:known])
        found.append(Load(sum(class_sizes[known : known + new]), known, new, kept))
        known += new
    return found


def passes(settings: Settings, image_shape: tuple[int, int, int], load: Load) -> float:
    """How many images `(H, W, C)` go forward through the network in a phase; a backward pass counts as two more."""
    memory, level, method = settings.memory, settings.exemplar_level, settings.method
    if method.num_units is not None and load.num_old:
        return 2.0 * load.num_images
    teacher = 1.0 if load.num_old and method.distils and settings.model_level.distillation else 0.0
    total = settings.model_level.epochs * _images_of_an_epoch(settings, load) * (_TRAINED + teacher)
    if method.num_units is not None:
        return total + 2.0 * load.num_images
    kept = _kept_per_class(memory, image_shape, load.num_old + load.num_new)
    new = min(kept * load.num_chosen, load.num_images)
    # Of classes of which more images arrive, exemplars are chosen among those and the ones that are kept.
    left = load.num_kept * load.num_left // max(load.num_old, 1)
    total += (load.num_images + load.num_kept - left) * (memory.selection == "herding") + 2.0 * (new + left)
    if memory.learns:
        total += _meta_steps(level, level.epochs, load.num_images, load.num_chosen) * _learning(settings, load, new)
        total += _simulated_phases(settings, load)
    if memory.adjust and left:
        part, epochs = left // level.num_parts, level.adjust_epochs or level.epochs
        steps = level.num_parts * _meta_steps(level, epochs, left - part, load.num_left)
        total += steps * _temporary_model(level, part, left - part, load.num_left)
    if settings.finetuning.applies_to(1 if load.num_old else 0, method.finetunes):
        total += settings.finetuning.epochs * (new + left) * _TRAINED
    if settings.probe.enabled and memory.keeps:
        total += settings.probe.repeats * (settings.probe.epochs + settings.probe.scratch_epochs) * new * _TRAINED
    return total


def _meta_steps(level: ExemplarLevel, epochs: int, num_images: int, num_classes: int) -> int:
    """Meta-steps of one optimisation of exemplars, which are validated on some images."""
    chunks = num_chunks(num_classes, level.classes_per_chunk)
    return epochs * chunks * level.steps_in_epoch(math.ceil(num_images / chunks))


def _learning(settings: Settings, load: Load, num_exemplars: int) -> float:
    """Forward passes of a meta-step that learns so many exemplars of what arrives, by the objective of the settings."""
    level, real = settings.exemplar_level, min(settings.exemplar_level.batch_size, load.num_images)
    if level.objective == "matching":
        shown = num_exemplars * min(settings.matching.classes, load.num_chosen) / load.num_chosen
        # Gradients of the last block are a pass back for real images, and are differentiated for exemplars.
        block = settings.matching.gradients == "block"
        seen, learned = _TRAINED if block else 1.0, _WALKED_BACK if block else _TRAINED
        return (real + shown * level.real_share) * seen + shown * (1 - level.real_share) * learned
    if level.objective == "next_phase":
        inner = level.inner_steps * level.inner_batch_size * (_TRAINED + _WALKED_BACK + settings.method.distils)
        return settings.next_phase.draws * (inner + _TRAINED * real)
    return _temporary_model(level, num_exemplars, load.num_images, load.num_chosen)


def _simulated_phases(settings: Settings, load: Load) -> float:
    """Forward passes of the later phases that `matching` takes networks from, before the first meta-step."""
    level = settings.exemplar_level
    if level.objective != "matching":
        return 0.0
    steps = settings.matching.later_phases * num_chunks(load.num_chosen, level.classes_per_chunk) * level.inner_steps
    return steps * level.inner_batch_size * (_TRAINED + settings.method.distils)


def _temporary_model(level: ExemplarLevel, num_exemplars: int, num_images: int, num_classes: int) -> float:
    """Forward passes of a meta-step of the paper's objective."""
    share = math.ceil(num_exemplars / num_chunks(num_classes, level.classes_per_chunk))
    inner = min(level.inner_batch_size, share) * level.inner_steps
    return inner * (_TRAINED + _WALKED_BACK) + _TRAINED * min(level.batch_size, num_images)


def _images_of_an_epoch(settings: Settings, load: Load) -> int:
    """Images that the model level trains on in an epoch, those that come more than once counted as often."""
    plain, steps = load.num_images + load.num_kept, settings.rehearsal.steps_per_epoch
    if steps is None or not (load.num_old and load.num_new and load.num_kept):
        return plain
    return steps * min(settings.model_level.batch_size, plain)


def _kept_per_class(memory: Memory, image_shape: tuple[int, int, int], num_classes: int) -> int:
    """Exemplars of each of so many classes, images of mosaics counted; where bytes decide, roughly."""
    if not memory.keeps or not num_classes:
        return 0
    if not memory.counts_bytes:
        return memory.count(num_classes) * memory.images_per_slot
    each = math.prod(image_shape) * (4 if memory.store_floats else 1) * _CODED[memory.codec]
    return max(int(memory.share(num_classes, 0) / each), 1) * memory.images_per_slot


def seconds(
    settings: Settings, image_shape: tuple[int, int, int], planned: Sequence[Load], num_replicas: int = 1
) -> list[float] | None:
    """Seconds that each of some phases will take, roughly; None where nobody knows the network's size.

    Args:
      settings: of the learner.
      image_shape: `(H, W, C)`.
      planned: what each phase has to do.
      num_replicas: devices that share the work.
    """
    count = getattr(settings.network, "multiply_adds", None)
    if count is None:
        return None
    per_image = count(image_shape)
    if per_image is None:
        return None
    speed = _SHARE_OF_SPEED * multiply_adds_per_second() * num_replicas
    return [_TRACED_SECONDS + passes(settings, image_shape, load) * per_image / speed for load in planned]


def multiply_adds_per_second() -> float:
    """How fast the device on which TensorFlow computes by default convolves, the best of three trials."""
    images, kernel = tf.fill([64, 32, 32, 32], 0.5), tf.fill([3, 3, 32, 32], 0.01)
    best = math.inf
    for _ in range(_TRIALS + 1):  # the first prepares
        start = time.perf_counter()
        tf.nn.conv2d(images, kernel, 1, "SAME").numpy()
        best = min(best, time.perf_counter() - start)
    return 64 * 32 * 32 * 9 * 32 * 32 / best


def told(num_seconds: float) -> str:
    """A duration as people say it: `40 s`, `3 minutes`, `2.5 hours`."""
    if num_seconds < 90:
        return f"{max(round(num_seconds), 1)} s"
    return f"{num_seconds / 60:.0f} minutes" if num_seconds < 5400 else f"{num_seconds / 3600:.1f} hours"
