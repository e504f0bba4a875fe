"""The kinds of engine: each an object that owns its options and says what it needs and what it trains.

| name | how | gradient | memory in T |
| --- | --- | --- | --- |
| `adjoint` | walks back step by step, a tape over a tape | exact | T copies of the parameters, and K activations |
| `adjoint_forward` | the same walk, forward mode over a tape | exact | the same |
| `truncated` | the same walk over the last `window` steps | of those steps | `window` copies |
| `unrolled` | tapes around the whole training | exact | activations of all steps |
| `head` | `adjoint` for a classifier on frozen features | exact, for the classifier | T copies of the classifier |
| `prototype` | class means of frozen features, no training | exact | none |

K is `keep_activations`, the last steps that keep what they computed; none by default.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

import numpy as np

from mnemonics_tf import checks
from mnemonics_tf.bilevel.inner_sgd import InnerSGD
from mnemonics_tf.system.lazy import tf

# What computes is imported when it is built: it needs TensorFlow, and settings that choose an engine do not.
if TYPE_CHECKING:
    from mnemonics_tf.bilevel.frozen_features import Features
    from mnemonics_tf.bilevel.problem import Loss, MetaGradient, MetaStep

# What computes a meta-gradient once it is built.
Compute: TypeAlias = "Callable[[MetaStep], MetaGradient]"


@dataclasses.dataclass(frozen=True)
class Engine:
    """What all kinds have in common. Frozen: two with the same options are equal and share what was compiled.

    Attributes:
      name: what settings call it.
      trains: what the temporary training changes: all weights of the `network`, those of its `head`, or `nothing`.
      needs_scaled_head: whether it compares cosines at the scale that a head has learned; a linear head has none.
      shares_batches: whether several devices share each batch; otherwise one device works on all of it.
    """

    name: ClassVar[str]
    trains: ClassVar[Literal["network", "head", "nothing"]] = "network"
    needs_scaled_head: ClassVar[bool] = False
    shares_batches: ClassVar[bool] = False

    @property
    def needs_features(self) -> bool:
        """Whether the network stays frozen, so that the engine needs it as a function images -> embeddings."""
        return self.trains != "network"

    @property
    def fewest_steps(self) -> int:
        """The shortest temporary training that it can work on."""
        return 1

    @property
    def piece_size(self) -> int | None:
        """The most images of a batch that are worked on at a time; None for whole batches."""
        return None

    def num_steps(self, longest: int, generator: np.random.Generator) -> int:
        """T of one meta-step, where settings allow `longest` steps: all of them."""
        return longest

    def build(
        self,
        inner_loss: Loss,
        outer_loss: Loss,
        sgd: InnerSGD,
        features: Features | None,
        strategy: tf.distribute.Strategy,
    ) -> Compute:
        """What computes the meta-gradient; compiled at its first call.

        Args:
          inner_loss: of the temporary training.
          outer_loss: of the validation.
          sgd: the temporary training's optimiser.
          features: the frozen network, where `needs_features` says so; None otherwise.
          strategy: whose replicas share each batch, if the kind can.
        """
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class _Walking(Engine):
    """Kinds that walk back over the steps of the training.

    Attributes:
      checkpoint_every: keep the parameters of every k-th step only and train the steps between once more: T / k + k
        copies in the place of T, for one more training. None, the default, keeps all: the fastest, and enough memory
        for most networks.
      images_at_once: work on so many images of a batch at a time, at most, and add up. It bounds the memory for
        activations. None, the default, works on all at once, which is the fastest.
    """

    shares_batches = True
    checkpoint_every: int | None = dataclasses.field(default=None, kw_only=True)
    images_at_once: int | None = dataclasses.field(default=None, kw_only=True)

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None or field.default is dataclasses.MISSING:
                checks.check_positive_integer(**{f"{type(self).__name__}.{field.name}": value})

    def build(
        self,
        inner_loss: Loss,
        outer_loss: Loss,
        sgd: InnerSGD,
        features: Features | None,
        strategy: tf.distribute.Strategy,
    ) -> Compute:
        from mnemonics_tf.bilevel import second_order
        from mnemonics_tf.bilevel.walk import Walk

        return Walk(
            inner_loss,
            outer_loss,
            sgd,
            getattr(second_order, self._second_order),
            self._window,
            self.checkpoint_every,
            self.images_at_once,
            self._num_recorded,
            strategy,
        )

    @property
    def piece_size(self) -> int | None:
        return self.images_at_once

    # The function of `second_order` that differentiates a step.
    _second_order: ClassVar[str] = "reverse_over_reverse"

    @property
    def _window(self) -> int | None:
        """How many of the last steps are differentiated; None for all."""
        return None

    @property
    def _num_recorded(self) -> int | None:
        """How many of the last steps keep their activations; None for none."""
        return None


@dataclasses.dataclass(frozen=True)
class _Recording(_Walking):
    """Kinds that can walk back over steps whose activations were kept.

    Attributes:
      keep_activations: K, the last steps that keep their activations from the training, in the place of computing them
        once more on the way back: 9 passes through the convolutions in the place of 11 for each of them. If K is T or
        more all steps do, which is as fast as `unrolled` and traced once for all T. A step of ResNet-20 with 64 images
        of 32 x 32 takes about 0.1 GB. Devices that share batches keep none. None, the default, keeps none: memory
        hardly grows with T.
    """

    keep_activations: int | None = dataclasses.field(default=None, kw_only=True)

    def __post_init__(self):
        super().__post_init__()
        _check_room(self.keep_activations, self.images_at_once, f"{type(self).__name__}.")

    @property
    def _num_recorded(self) -> int | None:
        return self.keep_activations


@dataclasses.dataclass(frozen=True)
class Adjoint(_Recording):
    """Exact, whatever T is: the default, as it works on every model that has second derivatives."""

    name = "adjoint"


@dataclasses.dataclass(frozen=True)
class AdjointForward(_Walking):
    """`Adjoint` with forward mode over a tape. Refuses models with operations that have no right forward mode."""

    name = "adjoint_forward"
    _second_order = "forward_over_reverse"


@dataclasses.dataclass(frozen=True)
class Truncated(_Recording):
    """`Adjoint` over the last steps only; the state before them counts as a constant.

    Attributes:
      window: W, the last steps that are differentiated. There is no default: it is the point of choosing this kind.
    """

    name = "truncated"
    window: int

    @property
    def fewest_steps(self) -> int:
        return self.window

    def num_steps(self, longest: int, generator: np.random.Generator) -> int:
        """A random T from the window to `longest`: the window's end moves, so all stages of the training are seen."""
        return int(generator.integers(self.window, longest + 1))

    @property
    def _window(self) -> int | None:
        return self.window


@dataclasses.dataclass(frozen=True)
class Unrolled(Engine):
    """Nested tapes around the whole training, on one device: the reference that the others are tested against."""

    name = "unrolled"

    def build(
        self,
        inner_loss: Loss,
        outer_loss: Loss,
        sgd: InnerSGD,
        features: Features | None,
        strategy: tf.distribute.Strategy,
    ) -> Compute:
        from mnemonics_tf.bilevel.unrolled import UnrolledTraining

        return UnrolledTraining(inner_loss, outer_loss, sgd)


@dataclasses.dataclass(frozen=True)
class Head(_Walking):
    """`Adjoint` for a classifier on features of the frozen network: cheap, and close to the paper's released code."""

    name = "head"
    trains = "head"

    def build(
        self,
        inner_loss: Loss,
        outer_loss: Loss,
        sgd: InnerSGD,
        features: Features | None,
        strategy: tf.distribute.Strategy,
    ) -> Compute:
        from mnemonics_tf.bilevel.frozen_features import HeadTraining

        walk: Any = super().build(inner_loss, outer_loss, sgd, None, strategy)
        return HeadTraining(walk, _given(features))


@dataclasses.dataclass(frozen=True)
class Prototype(Engine):
    """Class means of frozen features in the place of a training, on one device."""

    name = "prototype"
    trains = "nothing"
    needs_scaled_head = True

    def build(
        self,
        inner_loss: Loss,
        outer_loss: Loss,
        sgd: InnerSGD,
        features: Features | None,
        strategy: tf.distribute.Strategy,
    ) -> Compute:
        from mnemonics_tf.bilevel.frozen_features import ClassMeans

        return ClassMeans(outer_loss, _given(features))


_KINDS = (Adjoint, AdjointForward, Truncated, Unrolled, Head, Prototype)
ENGINES = tuple(kind.name for kind in _KINDS)


def engine_of(
    engine: str | Engine,
    window: int | None = None,
    checkpoint_every: int | None = None,
    images_at_once: int | None = None,
    keep_activations: int | None = None,
    owner: str = "",
) -> Engine:
    """The engine that a name and options stand for: the one place where names become objects.

    Args:
      engine: one of `ENGINES`, or an object that has its options already.
      window: of `truncated`; None for the others.
      checkpoint_every: of the kinds that walk back; None for their default.
      images_at_once: of the kinds that walk back; None for their default.
      keep_activations: of `adjoint` and `truncated`; None for their default.
      owner: what messages put before the names, such as `ExemplarLevel.`; empty by default.

    Raises:
      UsageError: there is no such engine, or it gets an option that it does not use, or not one that it needs.
    """
    options = {
        "window": window,
        "checkpoint_every": checkpoint_every,
        "images_at_once": images_at_once,
        "keep_activations": keep_activations,
    }
    given = {name: value for name, value in options.items() if value is not None}
    if isinstance(engine, Engine):
        if given:
            raise checks.UsageError(
                f"{owner}{next(iter(given))} = {next(iter(given.values()))!r} beside the engine {engine}: expected "
                "options inside the engine object. Give it there."
            )
        return engine
    checks.check_choice(f"{owner}engine", engine, ENGINES)
    kind = _KINDS[ENGINES.index(engine)]
    if (window is not None) != (kind is Truncated):
        raise checks.UsageError(
            f"{owner}window = {window!r} with the engine {engine!r}: 'truncated' needs the number of last steps to "
            "differentiate, and no other engine uses it."
        )
    for name, value in given.items():
        checks.check_positive_integer(**{f"{owner}{name}": value})
        if name not in _options(kind):
            walking = ", ".join(repr(each.name) for each in _KINDS if name in _options(each))
            raise checks.UsageError(
                f"{owner}{name} = {value} with the engine {engine!r}: only {walking} know it. Leave it out."
            )
    _check_room(keep_activations, images_at_once, owner)
    return kind(**given)


def _check_room(keep_activations: int | None, images_at_once: int | None, owner: str) -> None:
    if keep_activations is not None and images_at_once is not None:
        raise checks.UsageError(
            f"{owner}keep_activations = {keep_activations} with images_at_once = {images_at_once}: one keeps "
            "activations of whole batches, and the other has no room for them. Leave one of them out."
        )


def _options(kind: type[Engine]) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


def _given(features: Features | None) -> Features:
    if features is None:
        raise ValueError("features = None: the engine needs the frozen network, a function images -> embeddings.")
    return features
