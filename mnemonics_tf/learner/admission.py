"""Whether what comes can be learned, and by the network that there is: found out before anything is learned."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from mnemonics_tf import checks
from mnemonics_tf.bilevel.plan import inner_plan
from mnemonics_tf.bilevel.problem import MetaStep
from mnemonics_tf.bilevel.second_derivatives import SecondOrderCheck, explaining_missing_derivatives
from mnemonics_tf.data.stored import StoredImages
from mnemonics_tf.data.types import ImageTraits, LabelledImages
from mnemonics_tf.learner.arrivals import NamedImages
from mnemonics_tf.learner.context import factory_of
from mnemonics_tf.learner.settings import Settings
from mnemonics_tf.learner.state import ClassTable
from mnemonics_tf.memory.budget import check_kept
from mnemonics_tf.memory.optimising.objectives import WholeNetwork
from mnemonics_tf.memory.store import ExemplarStore
from mnemonics_tf.models.backbone import Backbone
from mnemonics_tf.system import seeds

_NUM_IMAGES = 4


def check_arriving(
    settings: Settings,
    traits: ImageTraits,
    known: ClassTable,
    train: NamedImages,
    exemplars: ExemplarStore,
    strategy: tf.distribute.Strategy,
) -> None:
    """Checks images that have come against the settings, and before the first ones the backbone.

    Args:
      settings: of the learner.
      traits: of its images.
      known: the classes that it knows; none before the first images.
      train: what comes.
      exemplars: of the known classes.
      strategy: the devices that will share each batch.

    Raises:
      UsageError: these images cannot be learned as the settings say.
    """
    settings.memory.check_place(isinstance(train.images, StoredImages))
    num_new = sum(name not in known.names for name in train.names)
    arriving = zip(train.names, np.bincount(train.labels, minlength=len(train.names)).tolist(), strict=True)
    kept = (exemplars.counts(len(known)) * exemplars.codec.images_per_slot).tolist()
    others = dict(zip(known.names, kept, strict=True))
    # New exemplars of a known class are chosen among all, and the network is trained on all.
    counts = [count + others.pop(name, 0) for name, count in arriving if count]
    replicas = strategy.num_replicas_in_sync
    settings.check_arrival(counts, len(known), num_new, replicas, list(others.values()))
    images = LabelledImages(train.images, train.labels)
    settings.check_first_images(images, train.names, len(known) + num_new, later=True)
    if settings.memory.counts_bytes:
        staying = exemplars.of_classes([index for index, name in enumerate(known.names) if name in others])
        soft_labels = settings.soft_labels(len(known) + num_new)
        check_kept(settings.memory, staying, known.names, len(known) + num_new, soft_labels)
    if not len(known):
        check_backbone(settings, traits)


def check_backbone(settings: Settings, traits: ImageTraits) -> None:
    """Builds a Keras model for the images and, if exemplars are to be learned through it, differentiates it twice.

    It does nothing for this package's own networks.

    Args:
      settings: of the learner.
      traits: of its images.

    Raises:
      UsageError: it cannot be built for such images, or TensorFlow has no second derivatives of a layer, or wrong ones.
    """
    if not isinstance(settings.network, Backbone):
        return
    with seeds.keeping_global_generators():
        seeds.seed_initial_weights(seeds.stage_seed(settings.seed, "check_backbone"))
        model = factory_of(settings, traits).trained.start(2)
    memory, level = settings.memory, settings.exemplar_level
    if level.engine_object.trains != "network" or not memory.keeps or not (memory.learns or memory.adjust):
        return
    model.train_all()
    draws = seeds.generator(settings.seed, "check_backbone")
    images = tf.constant(draws.normal(size=(_NUM_IMAGES, *traits.image_shape)), tf.float32)
    labels = tf.constant([0, 1] * (_NUM_IMAGES // 2), tf.int64)
    objective = WholeNetwork(model, level.batch_norm)
    step = MetaStep(
        params=objective.start(),
        exemplars=images,
        labels=labels,
        plan=inner_plan(_NUM_IMAGES, 1, _NUM_IMAGES, draws),
        outer_images=images,
        outer_labels=labels,
        rates=tf.constant([level.inner_learning_rate]),
        learns_rates=False,
    )
    try:
        with explaining_missing_derivatives():
            SecondOrderCheck(objective.inner_loss)(step)
    except checks.UsageError:
        raise
    except ValueError as error:
        raise checks.UsageError(f"The backbone {settings.network.name!r}: {error}") from error
