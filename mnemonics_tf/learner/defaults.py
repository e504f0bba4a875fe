"""What a learner chooses where nothing is said, by the size and the number of the first images.

| images | backbone | trained for |
| --- | --- | --- |
| up to 16 pixels a side | `resnet8` with an embedding of 64 | 30 epochs in batches of 64 |
| up to 48 | `resnet20` | in each phase as many epochs as make 200,000 images, 10 to 80 |
| up to 112 | `resnet32` | the same |
| larger | `resnet18` with a stem of 7 x 7 | the same |
| any, with a Keras model | that model | as many epochs as make 20,000 images, 5 to 30, at a rate of 0.01 |

Above 16 pixels a batch has 32 images where fewer than 1,000 come, 64 where fewer than 2,000 do, and 128 otherwise.
The rates fall to a tenth after a half and after four fifths of the epochs. Every scale is that of this project's
configurations: `configs/schedules/digits.gin` for the smallest images, `short.gin` and `paper_cifar100.gin` for the
others. `method="auto"` is `analytic` where the memory is to keep nothing or, if nothing is said of the memory, where 5
classes or more come first, and `lucir` otherwise. A learner keeps no exemplars with `analytic`, and otherwise 20 a
class, which start from herding, are learned by a few careful meta-steps, and are fine-tuned on together with the old
ones. A Keras model is taken for pretrained: it is trained gently, and exemplars are learned by the engine `head`, which
passes a large network once a meta-step. Weight transfer is off: it presumes features of many classes, and the first
classes of an open-ended learner are few.
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

from mnemonics_tf import checks, methods
from mnemonics_tf.data.types import ImageTraits
from mnemonics_tf.evaluation.settings import Probe
from mnemonics_tf.learner.settings import Settings
from mnemonics_tf.memory.optimising.objective_settings import Matching, NextPhase
from mnemonics_tf.memory.optimising.settings import ExemplarLevel
from mnemonics_tf.memory.settings import Memory
from mnemonics_tf.methods.base import Method
from mnemonics_tf.models.backbone import Backbone
from mnemonics_tf.models.resnet import ResNet
from mnemonics_tf.training.rehearsal import Rehearsal
from mnemonics_tf.training.settings import BalancedFinetune, ModelLevel

BACKBONES = {
    "resnet8": ResNet((1, 1, 1), (16, 32, 64), embedding_dim=64),
    "resnet20": ResNet((3, 3, 3), (16, 32, 64)),
    "resnet32": ResNet((5, 5, 5), (16, 32, 64)),
    # For photographs on CPUs: an image of 64 pixels costs it a sixth of what one of 32 costs resnet20.
    "small": ResNet((1, 1, 1, 1), (16, 32, 64, 128), stem="7x7"),
    "resnet18": ResNet((2, 2, 2, 2), (64, 128, 256, 512), stem="7x7"),
}
# The longest side that each is meant for, in pixels.
_SIDES = {"resnet8": 16, "resnet20": 48, "resnet32": 112}

_IMAGES_TO_TRAIN_ON = 200_000
_FEWEST_EPOCHS, _MOST_EPOCHS = 10, 80
_BATCHES = ((2000, 128), (1000, 64), (0, 32))  # from so many images on, batches of that size
# Of a backbone that is taken for pretrained.
_IMAGES_TO_TUNE_ON = 20_000
_FEWEST_TUNING_EPOCHS, _MOST_TUNING_EPOCHS = 5, 30
# The fewest that it was tried with, on digits.
_CLASSES_FOR_ANALYTIC = 5
AUTO = "auto"
PARTS = (
    "model_level",
    "rehearsal",
    "exemplar_level",
    "next_phase",
    "matching",
    "finetuning",
    "head",
    "classifier",
    "deterministic",
)

_KINDS: dict[str, type] = {
    "model_level": ModelLevel,
    "rehearsal": Rehearsal,
    "exemplar_level": ExemplarLevel,
    "next_phase": NextPhase,
    "matching": Matching,
    "finetuning": BalancedFinetune,
}


@dataclasses.dataclass(frozen=True)
class Choices:
    """What the user has said; None for what is to be chosen.

    Attributes:
      method: the base method.
      backbone: the network.
      memory: which exemplars are kept.
      image_size: side of images from files, in pixels.
      horizontal_flip: whether a mirrored image still shows its class.
      seed: of all that is random.
      parts: further settings by their names in `Settings`.
      is_open: whether the first images still choose between `method` and `analytic`.
    """

    method: Method
    backbone: ResNet | Backbone | None
    memory: Memory | None
    image_size: int | None
    horizontal_flip: bool | None
    seed: int
    parts: dict[str, Any]
    is_open: bool = False

    @classmethod
    def made(
        cls,
        method: str | Method,
        backbone: Any,
        memory: Memory | None,
        image_size: int | None,
        horizontal_flip: bool | None,
        seed: int,
        parts: dict[str, Any],
    ) -> Choices:
        """Checks what the user has said. Raises UsageError for what there is not."""
        for name, value in parts.items():
            checks.check_choice("IncrementalLearner's argument", name, PARTS)
            expected = _KINDS.get(name)
            if expected is not None and not isinstance(value, expected):
                raise checks.UsageError(f"{name} = {value!r}: expected a {expected.__name__}.")
        if image_size is not None:
            checks.check_positive_integer(image_size=image_size)
        if horizontal_flip is not None:
            checks.check_bool(horizontal_flip=horizontal_flip)
        if memory is not None and not isinstance(memory, Memory):
            raise checks.UsageError(f"memory = {memory!r}: expected a Memory, such as Memory(per_class=20).")
        if isinstance(backbone, str):
            checks.check_choice("backbone", backbone, BACKBONES)
            backbone = BACKBONES[backbone]
        elif backbone is not None and not isinstance(backbone, ResNet | Backbone):
            if not hasattr(backbone, "layers"):
                raise checks.UsageError(
                    f"backbone = {backbone!r}: expected a ResNet, a Keras model, or one of "
                    f"{', '.join(map(repr, BACKBONES))}."
                )
            backbone = Backbone(backbone)
        if isinstance(backbone, Backbone) and image_size is not None:
            backbone.check_size(image_size, "image_size")
        is_open = method == AUTO and memory is None
        if isinstance(method, str):
            if method == AUTO:
                method = "analytic" if memory is not None and not memory.keeps else "lucir"
            known = methods.available()
            checks.check_choice("method", method, (*known, AUTO))
            method = known[method]()
        elif not isinstance(method, Method):
            raise checks.UsageError(f"method = {method!r}: expected a base method, or its name, such as 'lucir'.")
        methods.check_own_name(type(method))
        if method.trains_on_old_data:
            raise checks.UsageError(
                f"method = {method.name!r}: it trains on the images of old classes again, and a learner does not have "
                "them. Use another method."
            )
        choices = cls(method, backbone, memory, image_size, horizontal_flip, seed, parts, is_open)
        # Contradictions are told now, and not when the first images come.
        choices.settings(side=32, num_images=1000).check()
        return choices

    def for_classes(self, num_classes: int) -> Choices:
        """The choices once so many classes have come first: which method it is is settled then."""
        analytic = dataclasses.replace(self, method=methods.available()["analytic"](), is_open=False)
        if self.is_open and num_classes >= _CLASSES_FOR_ANALYTIC:
            with contextlib.suppress(checks.UsageError):  # other choices of the user may be against it
                analytic.settings(side=32, num_images=1000).check()
                return analytic
        return dataclasses.replace(self, is_open=False)

    def settings(self, side: int, num_images: int) -> Settings:
        """All settings, for images of `side` pixels of which `num_images` come first."""
        backbone = self.backbone or BACKBONES[_backbone_for(side)]
        memory = self.memory or Memory(initial="herding")
        if self.memory is None and self.method.num_units is not None:
            memory = Memory(strategy="herding", per_class=0, adjust=False)
        chosen: dict[str, Any] = {
            "model_level": _model_level(side, num_images, backbone),
            "exemplar_level": _exemplar_level(side, backbone),
            "finetuning": dataclasses.replace(_finetuning(side, memory), trained=self.method.finetuned_part),
            "probe": Probe(enabled=False),
            "deterministic": False,
            **self.parts,
        }
        return Settings(self.method, backbone, memory, seed=self.seed, **chosen)

    def followed(self, settings: Settings, side: int, num_images: int) -> Settings:
        """The settings for a later phase: unless the user chose them, the epochs follow the number of its images.

        Args:
          settings: of the phases so far.
          side: of the images, in pixels.
          num_images: that the network is trained on, exemplars included.
        """
        if "model_level" in self.parts:
            return settings
        return dataclasses.replace(settings, model_level=_model_level(side, num_images, settings.network))

    @property
    def side(self) -> int | None:
        """Side of the square that images from files are brought to; None for one that suits the first of them."""
        return self.image_size or (self.backbone.image_size if isinstance(self.backbone, Backbone) else None)


def settled(
    choices: Choices, image_shape: tuple[int, int, int], num_images: int, is_grey: bool
) -> tuple[Settings, ImageTraits]:
    """All settings, and what images have in common.

    Args:
      choices: of the user.
      image_shape: `(H, W, C)` of the first images.
      num_images: how many there are of them.
      is_grey: whether they came with one channel: such tend to be letters and digits, and are not mirrored.

    Raises:
      UsageError: settings that contradict each other, or cannot take such images.
    """
    side = max(image_shape[:2])
    settings = choices.settings(side, num_images)
    flip = image_shape[2] == 3 and not is_grey if choices.horizontal_flip is None else choices.horizontal_flip
    # An eighth of the side at most, as 4 pixels are of 32.
    traits = ImageTraits(image_shape, flip, crop_padding=max(1, min(image_shape[:2]) // 8))
    settings.check()
    settings.check_source(traits.horizontal_flip, traits.image_shape)
    return settings, traits


def with_epochs(settings: Settings, epochs: int) -> Settings:
    """The settings with other epochs of the model level, after a half and four fifths of which the rate falls."""
    checks.check_positive_integer(epochs=epochs)
    milestones = tuple(sorted({epochs // 2, epochs * 4 // 5} - {0}))
    return dataclasses.replace(
        settings, model_level=dataclasses.replace(settings.model_level, epochs=epochs, milestones=milestones)
    )


def _backbone_for(side: int) -> str:
    return next((name for name, most in _SIDES.items() if side <= most), "resnet18")


def _model_level(side: int, num_images: int, backbone: ResNet | Backbone) -> ModelLevel:
    epochs, batch_size, rate = 30, 64, ModelLevel.learning_rate
    if isinstance(backbone, Backbone):
        epochs = min(max(_IMAGES_TO_TUNE_ON // max(num_images, 1), _FEWEST_TUNING_EPOCHS), _MOST_TUNING_EPOCHS)
        batch_size, rate = 32, 0.01
    elif side > _SIDES["resnet8"]:
        epochs = min(max(_IMAGES_TO_TRAIN_ON // max(num_images, 1), _FEWEST_EPOCHS), _MOST_EPOCHS)
        batch_size = next(size for least, size in _BATCHES if num_images >= least)
    return ModelLevel(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=rate,
        milestones=(epochs // 2, epochs * 4 // 5),
        weight_transfer="none",
    )


def _exemplar_level(side: int, backbone: ResNet | Backbone) -> ExemplarLevel:
    engine = "head" if isinstance(backbone, Backbone) else "adjoint"
    if side <= _SIDES["resnet8"]:
        return ExemplarLevel(
            engine=engine, epochs=5, inner_steps=4, inner_batch_size=64, learning_rate=10.0, adjust_learning_rate=10.0
        )
    return ExemplarLevel(
        engine=engine,
        epochs=1,
        steps_per_epoch=10,
        batch_size=512,
        inner_steps=10,
        inner_batch_size=100,
        inner_learning_rate=0.005,
        learning_rate=40.0,
        adjust_learning_rate=40.0,
    )


def _finetuning(side: int, memory: Memory) -> BalancedFinetune:
    if not memory.keeps:
        return BalancedFinetune(enabled=False)
    if side <= _SIDES["resnet8"]:
        return BalancedFinetune(epochs=40, batch_size=32)
    return BalancedFinetune(epochs=4, learning_rate=0.003, initial_phase=False)
