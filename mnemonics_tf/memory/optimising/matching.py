"""The objective `matching`: networks of the phase's training make of exemplars what they make of real images."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from mnemonics_tf import losses
from mnemonics_tf.bilevel.problem import MetaGradient, connected
from mnemonics_tf.data import pixels
from mnemonics_tf.data.decoding import in_memory
from mnemonics_tf.data.types import LabelledImages, PixelRange
from mnemonics_tf.memory.codecs import Codec, Pixels, decoded
from mnemonics_tf.memory.optimising.augmentation import draw_transformation
from mnemonics_tf.memory.optimising.forgetting import ForgettingNetworks
from mnemonics_tf.memory.optimising.objective_settings import Matching
from mnemonics_tf.memory.optimising.settings import ExemplarLevel
from mnemonics_tf.memory.optimising.tasks import Found
from mnemonics_tf.memory.optimising.variables import ExemplarVariables
from mnemonics_tf.models.classifier import Classifier
from mnemonics_tf.models.functional import functional_call
from mnemonics_tf.system import seeds

_WHOLE_IMAGES = Pixels()
_GRID = 4  # a side of the maps whose means are matched: coarse enough that images need not be aligned


class _Weights(NamedTuple):
    """Of one network, as functional calls take them."""

    backbone: list[tf.Tensor]
    statistics: list[tf.Tensor]
    head: list[tf.Tensor]


class _Images(NamedTuple):
    """Images of some classes.

    Attributes:
      images: normalised `[n, H, W, C]`.
      shares: what each counts in the mean of each of c classes, `[n, c]`.
      labels: class indices, `[n]`.
    """

    images: tf.Tensor
    shares: tf.Tensor
    labels: tf.Tensor

    def take(self, rows: np.ndarray) -> _Images:
        """Some of them, which count as much as they did."""
        return _Images(*(tf.gather(each, rows) for each in self))


class _Network(NamedTuple):
    """A network that is matched, but as to some classes."""

    weights: _Weights
    left_out: np.ndarray = np.empty(0, np.int64)


class MatchedStatistics:
    """Matches what networks make of exemplars with what they make of real images; see `Matching`.

    It works on one device.

    Args:
      model: Θ_i; not changed.
      stage_outputs: names of the layers that the backbone's stages end with.
      pixel_range: normalisation.
      level: batches and augmentation.
      settings: what is matched.
      checkpoints: weights of the networks that the phase's training went through, by `model.named_weights()`'s names;
        may be empty. The trained network is always among those that are matched.
      forgetting: makes the networks of simulated later phases; None where `settings` wants none.
      codec: how exemplars are stored; those networks see what it decodes. Whole images by default.
    """

    def __init__(
        self,
        model: Classifier,
        stage_outputs: Sequence[str],
        pixel_range: PixelRange,
        level: ExemplarLevel,
        settings: Matching,
        checkpoints: Sequence[Mapping[str, np.ndarray]],
        forgetting: ForgettingNetworks | None = None,
        codec: Codec = _WHOLE_IMAGES,
    ):
        self.pixel_range, self.level, self.settings = pixel_range, level, settings
        backbone = model.backbone
        maps = [backbone.get_layer(name).output for name in stage_outputs]
        self._network, self._head = keras.Model(backbone.input, [*maps, backbone.output]), model.head
        self._weights_of = functools.partial(_weights, model, self._network)
        self.networks = [_Network(self._weights_of(each)) for each in (*checkpoints, {})]
        self._forgetting, self._codec = forgetting, codec
        last_block = stage_outputs[-1].rpartition("_")[0]
        variables = self._network.trainable_variables
        own = {id(each) for layer in backbone.layers if layer.name.startswith(last_block) for each in layer.weights}
        self._block = [place for place, variable in enumerate(variables) if id(variable) in own]
        self._perturbed = [place for place, variable in enumerate(variables) if len(variable.shape) > 1]
        self.gradient = tf.function(self._gradient, autograph=False, reduce_retracing=True)

    def task(self, exemplars: LabelledImages, data: LabelledImages, seed: int, stage: str) -> _Matched:
        """See `Tasks`. Raises UnsuitableError if later phases are wanted, and there are not two classes at hand."""
        networks = list(self.networks)
        if self._forgetting is not None:
            for weights, new_classes in self._forgetting.after(
                self.settings.later_phases, decoded(exemplars, self._codec), data, seed, stage
            ):
                networks.append(_Network(self._weights_of(weights), new_classes))
        return _Matched(self, networks, data, seed, stage)

    def drawn(self, draws: np.random.Generator, networks: Sequence[_Network]) -> _Network:
        """One of the networks, perturbed."""
        chosen = networks[int(draws.integers(len(networks)))]
        backbone = list(chosen.weights.backbone)
        if self.settings.perturbation:
            for place in self._perturbed:
                kernel = backbone[place]
                size = self.settings.perturbation * tf.sqrt(tf.reduce_mean(kernel**2))
                backbone[place] = kernel + size * draws.standard_normal(tuple(kernel.shape), np.float32)
        return chosen._replace(weights=chosen.weights._replace(backbone=backbone))

    def _gradient(
        self, weights: _Weights, exemplars: _Images, fixed: _Images | None, real: _Images
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The loss, and its gradient with respect to the images of `exemplars`.

        Args:
          weights: of the network.
          exemplars: those that are learned.
          fixed: those that stay as they are, and count in the same means; None for none. Going back through them would
            cost as much as through the others.
          real: real images of the same classes.
        """
        expected, expected_gradients = self._seen(weights, real)
        seen_fixed, gradients_fixed = ([], []) if fixed is None else self._seen(weights, fixed)
        shares = exemplars.shares if fixed is None else tf.concat([exemplars.shares, fixed.shares], axis=0)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(exemplars.images)
            seen, gradients = self._seen(weights, exemplars)
            if fixed is not None:
                seen = [tf.concat(each, axis=0) for each in zip(seen, seen_fixed, strict=True)]
                gradients = [own + other for own, other in zip(gradients, gradients_fixed, strict=True)]
            distances = [self._distance(*each, real.shares, shares) for each in zip(expected, seen, strict=True)]
            loss = tf.add_n(distances) / len(distances)
            if gradients:
                pairs = zip(expected_gradients, gradients, strict=True)
                apart = tf.add_n([tf.reduce_sum((of_real - own) ** 2) for of_real, own in pairs])
                length = tf.add_n([tf.reduce_sum(of_real**2) for of_real in expected_gradients])
                loss += self.settings.gradient_weight * tf.math.divide_no_nan(apart, length)
        return loss, tape.gradient(loss, exemplars.images)

    def _distance(
        self, of_real: tf.Tensor, of_exemplars: tf.Tensor, real_shares: tf.Tensor, shares: tf.Tensor
    ) -> tf.Tensor:
        """Of means, and of variances if they are matched, between `[B, d]` and `[n, d]` of one place: a scalar."""
        means = tf.matmul(real_shares, of_real, transpose_a=True)
        apart = tf.reduce_sum((means - tf.matmul(shares, of_exemplars, transpose_a=True)) ** 2, axis=1)
        variances = _variances(of_real, real_shares, means)
        within = tf.reduce_mean(tf.reduce_sum(variances, axis=1))
        distance = tf.math.divide_no_nan(tf.reduce_mean(apart), within)
        if self.settings.spread_weight:
            apart = tf.reduce_sum((variances - _variances(of_exemplars, shares, means)) ** 2)
            distance += self.settings.spread_weight * tf.math.divide_no_nan(apart, tf.reduce_sum(variances**2))
        return distance

    def _seen(self, weights: _Weights, shown: _Images) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """What a network makes of images: of each stage and the embedding `[B, d]`, and gradients of cross-entropy."""
        kind = self.settings.gradients
        backbone, head = list(weights.backbone), list(weights.head)
        trained = {"none": [], "head": head, "block": [*head, *(backbone[place] for place in self._block)]}[kind]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(trained)
            (*maps, features), _ = self._network.stateless_call(
                backbone, weights.statistics, shown.images, training=False
            )
            seen = [*map(_pooled, maps), features]
            if not trained:
                return seen, []
            _, logits = functional_call(self._head, head, features)
            # Every class counts alike, however many images it has.
            by_image = losses.cross_entropy(logits, shown.labels)
            loss = tf.reduce_mean(tf.linalg.matvec(shown.shares, by_image, transpose_a=True))
        return seen, connected(tape.gradient(loss, trained), "cross-entropy", "the network's weights")


class _Matched:
    """One task of `MatchedStatistics`."""

    def __init__(
        self, owner: MatchedStatistics, networks: Sequence[_Network], data: LabelledImages, seed: int, stage: str
    ):
        self._owner, self._networks = owner, networks
        self._data, self._seed, self._stage = data, seed, stage
        self._members = {int(label): np.flatnonzero(data.labels == label) for label in np.unique(data.labels)}
        self.steps_per_epoch = owner.level.steps_in_epoch(len(data))

    def step(self, variables: ExemplarVariables, index: int, draws: np.random.Generator) -> Found:
        """See `Task`."""
        owner = self._owner
        classes = self._classes(index)
        each = max(1, owner.level.batch_size // len(classes))
        rows = np.concatenate([draws.permutation(self._members[label])[:each] for label in classes])
        real = in_memory(self._data.take(np.sort(rows)))
        transform = draw_transformation(owner.level.augmentation, real.images.shape[1:], draws)
        # The trained network tells of all classes, so that there is always one.
        networks = [each for each in self._networks if not np.isin(classes, each.left_out).all()]
        network = owner.drawn(draws, networks)
        classes = np.setdiff1d(classes, network.left_out)
        real = real.of_classes(classes)
        with tf.GradientTape(persistent=True) as tape:
            images, labels = transform(variables.images()), variables.labels()
        seen = np.flatnonzero(np.isin(labels.numpy(), classes))
        own = _of_classes(tf.gather(images, seen), labels.numpy()[seen], classes)
        is_moving = variables.moving[seen]
        # Where the one exemplar of each of these classes stays there is a loss, and nothing to learn.
        followed = is_moving if is_moving.any() else ~is_moving
        moving, fixed = np.flatnonzero(followed), np.flatnonzero(~followed)
        loss, gradient = owner.gradient(
            network.weights,
            own.take(moving),
            own.take(fixed) if len(fixed) else None,
            _of_classes(transform(pixels.normalise(real.images, owner.pixel_range)), real.labels, classes),
        )
        if not is_moving.any():
            gradient = tf.zeros_like(gradient)
        by_image = tf.scatter_nd(seen[moving][:, None], gradient, images.shape)
        return Found(images, labels, tape, MetaGradient(loss, by_image), {"meta_loss": float(loss)})

    def _classes(self, index: int) -> np.ndarray:
        """The classes of a meta-step: consecutive steps go round all of them."""
        labels = np.array(sorted(self._members))
        count = min(self._owner.settings.classes, len(labels))
        rounds, place = divmod(index, len(labels) // count)
        order = seeds.generator(self._seed, self._stage, "classes", rounds).permutation(labels)
        return np.sort(order[place * count : (place + 1) * count])


def _of_classes(images: tf.Tensor, labels: np.ndarray, classes: np.ndarray) -> _Images:
    """Images that count alike in the mean of their class: each class's shares add up to 1."""
    members = (labels[:, None] == classes).astype(np.float32)
    return _Images(images, tf.constant(members / members.sum(axis=0)), tf.constant(labels))


def _pooled(maps: tf.Tensor) -> tf.Tensor:
    """Maps `[B, h, w, c]` as rows of means over the cells of a grid, `[B, d]`."""
    height, width = (max(1, side // _GRID) for side in maps.shape[1:3])
    cells = tf.nn.avg_pool2d(maps, (height, width), (height, width), "VALID")
    return tf.reshape(cells, [-1, cells.shape[1] * cells.shape[2] * cells.shape[3]])


def _variances(values: tf.Tensor, shares: tf.Tensor, means: tf.Tensor) -> tf.Tensor:
    """How far the images of each class are from given means, squared, on average: `[c, d]`.

    Args:
      values: `[B, d]`.
      shares: what each counts in the mean of each class, `[B, c]`.
      means: of the classes, `[c, d]`.
    """
    own = tf.matmul(tf.cast(shares > 0, means.dtype), means)
    return tf.matmul(shares, (values - own) ** 2, transpose_a=True)


def _weights(model: Classifier, network: keras.Model, checkpoint: Mapping[str, np.ndarray]) -> _Weights:
    """Weights by name, as functional calls of backbone and head take them; what has no name there is Θ_i's.

    Random states of layers such as dropout are among the variables, and no weights.
    """
    names = {id(variable): name for name, variable in model.named_weights().items()}

    def of(variables: Sequence[keras.Variable]) -> list[tf.Tensor]:
        return [tf.constant(checkpoint.get(names.get(id(variable), ""), variable.numpy())) for variable in variables]

    return _Weights(
        of(network.trainable_variables), of(network.non_trainable_variables), of(model.head.trainable_variables)
    )
