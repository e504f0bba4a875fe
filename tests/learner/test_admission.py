"""What may be learned with what is kept already."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from mnemonics_tf.checks import UsageError
from mnemonics_tf.data.types import ImageTraits, LabelledImages
from mnemonics_tf.learner.admission import check_arriving
from mnemonics_tf.learner.arrivals import NamedImages
from mnemonics_tf.learner.settings import Settings
from mnemonics_tf.learner.state import ClassTable
from mnemonics_tf.memory.settings import Memory
from mnemonics_tf.memory.store import ExemplarStore, codec_for
from mnemonics_tf.methods.lucir import LUCIR


@pytest.mark.parametrize(("replicas", "low_resolution"), [(2, 1), (1, 2)])
def test_single_image_of_a_known_class_is_taken_with_the_exemplars_that_are_kept(replicas, low_resolution):
    settings = Settings(LUCIR(), memory=Memory(per_class=4, low_resolution=low_resolution))
    traits, known = ImageTraits((8, 8, 3), True, 1), ClassTable((5, 6), ("ant", "bee"), (2,))
    slots = LabelledImages(np.zeros((8, 8, 8, 3), np.uint8), np.repeat([0, 1], 4))
    exemplars = ExemplarStore(slots, codec_for(settings.memory))
    devices = SimpleNamespace(num_replicas_in_sync=replicas)
    image = NamedImages(np.zeros((1, 8, 8, 3), np.uint8), np.zeros(1, np.int64), ("ant",))
    check_arriving(settings, traits, known, image, exemplars, devices)
    with pytest.raises(UsageError, match=r"Add images, or lower it|to be shared by 2 devices"):
        # Of a class that is not known there is nothing beside it.
        check_arriving(settings, traits, known, dataclasses.replace(image, names=("cat",)), exemplars, devices)
