"""Settings of the memory: which exemplars are kept, how many, and in which form."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from mnemonics_tf import checks
from mnemonics_tf.data.types import LabelledImages
from mnemonics_tf.memory.formats import check_holds

SELECTIONS = ("herding", "random", "boundary", "mixed")
DISCARDS = ("herding", "random")
STRATEGIES = ("mnemonics", *SELECTIONS)
CODECS = ("raw", "png", "webp", "jpeg", "source")

_PER_CLASS = 20  # exemplars, unless something else is said


@dataclasses.dataclass(frozen=True)
class Memory:
    """Which exemplars are kept and how many. Its name in configurations is `ExemplarMemory`.

    Attributes:
      strategy: `mnemonics` starts from real images and learns their pixels (Eq. 9); `herding` keeps real images whose
        mean embedding is near the class's; `random` keeps random real images; `boundary` keeps those that the trained
        network is least sure of, right or wrong: its probability of the class is nearest to that of the best other
        class; `mixed` takes turns between herding's and those. `mnemonics` by default: it is the paper's
        method.
      initial: the images that `mnemonics` starts from: one of the other strategies. `random` by default, as in
        Section 4.3. Without effect with the other strategies.
      per_class: exemplars of each class; 0 keeps none at all. Without effect where `total` is set. 20 by default, as in
        the paper's main setting (Section 7.1); left at that where the budget is one of bytes.
      total: exemplars of all classes together, dealt out evenly and rounded down, so that old classes lose some when
        new ones arrive (supplement A). None by default, no such limit: the paper's main setting has none.
      discard: which exemplars of old classes go when they must: a `random` choice, or, by the name of `herding`, those
        that were chosen last, which needs a choice with an order, so any but `random`. `random` by default, as in
        supplement A. Without effect on budgets of bytes, where the last ones go.
      adjust: whether later phases optimise the exemplars of old classes anew (Eq. 10), whatever the strategy. True by
        default, as in Algorithm 1; it brings the paper 0.34 points of accuracy on average (Table 2).
      store_floats: keep learned exemplars as float32 instead of rounding them to uint8, which takes four times the
        bytes. False by default, so that a learned exemplar takes as much space as the real image that it replaces.
      low_resolution: f, by which each exemplar is a mosaic of f * f images of its class at 1/f of the resolution, which
        are upsampled for training. 1 by default, whole images: mosaics of four halved images were worse (a probe's
        accuracy of 34.5 % against 50.7 %, `docs/measured_facts.md`).
      codec: how images are kept: `raw` pixels, or coded: `png` loses nothing, `webp` and `jpeg` lose detail. Each image
        is coded once; where exemplars are learned, their pixels are learned as floats and coded at the end. `source`
        keeps the files of a streamed data set as they came, with all their resolution, so that random windows are cut
        out of exemplars as out of new images. `raw` by default, as in the paper.
      quality: of `webp` and `jpeg`, 1 to 100; without effect on the others. 90 by default: some 35 dB on CIFAR-100,
        where a sixth of the raw bytes is left.
      bytes_per_class: in the place of a number, the bytes of each class: as many of the chosen images as fit stay, most
        important first (in the order of herding, or of the draw). Labels, soft labels and lengths of codes count, and
        not what all classes share, some hundred bytes of tables. None by default: the paper counts images.
      total_bytes: in the place of a number, the bytes of the whole memory, shared tables included, dealt out evenly to
        the classes; when new ones arrive, the least important exemplars go. None by default, as `bytes_per_class`.
      code_new: probability with which a new image goes through the codec before the network of its phase is trained on
        it, drawn for each image in each epoch: otherwise networks learn that coded means old. Test images and the
        images that exemplars are chosen from stay as they are. 0 by default, not at all.
      code_initial_phase: whether `code_new` is for phase 0, too, where there is no memory yet beside the new images.
        True by default, so that no network meets coded images for the first time in those of old classes; False leaves
        phase 0 as it is without a codec.

    Raises:
      UsageError: a value is out of its range, or contradicts another one.
    """

    strategy: str = "mnemonics"
    initial: str = "random"
    per_class: int = _PER_CLASS
    total: int | None = None
    discard: str = "random"
    adjust: bool = True
    store_floats: bool = False
    low_resolution: int = 1
    codec: str = "raw"
    quality: int = 90
    bytes_per_class: int | None = None
    total_bytes: int | None = None
    code_new: float = 0.0
    code_initial_phase: bool = True

    def __post_init__(self):
        checks.check_choice("ExemplarMemory.strategy", self.strategy, STRATEGIES)
        checks.check_choice("ExemplarMemory.initial", self.initial, SELECTIONS)
        checks.check_choice("ExemplarMemory.discard", self.discard, DISCARDS)
        checks.check_non_negative_integer(**{"ExemplarMemory.per_class": self.per_class})
        checks.check_positive_integer(**{"ExemplarMemory.low_resolution": self.low_resolution})
        checks.check_bool(**{"ExemplarMemory.adjust": self.adjust, "ExemplarMemory.store_floats": self.store_floats})
        self._check_codec()
        self._check_bytes()
        if self.total is not None:
            checks.check_positive_integer(**{"ExemplarMemory.total": self.total})
        elif self.discard == "herding" and self.total_bytes is None:
            raise checks.UsageError(
                "ExemplarMemory.discard = 'herding': a budget a class has nothing to discard by it. Set "
                "ExemplarMemory.total, or leave it out."
            )
        if self.discard == "herding" and self.selection == "random":
            raise checks.UsageError(
                "ExemplarMemory.discard = 'herding': exemplars that were chosen at random have no such order. Set "
                f"ExemplarMemory.{'initial' if self.strategy == 'mnemonics' else 'strategy'} = 'herding'."
            )
        if not self.keeps and (self.learns or self.adjust):
            raise checks.UsageError(
                "ExemplarMemory.per_class = 0: there is nothing to learn or adjust. Raise it, or set "
                "ExemplarMemory.strategy = 'herding' and ExemplarMemory.adjust = False."
            )

    def _check_codec(self) -> None:
        checks.check_choice("ExemplarMemory.codec", self.codec, CODECS)
        checks.check_positive_integer(**{"ExemplarMemory.quality": self.quality})
        checks.check_share(**{"ExemplarMemory.code_new": self.code_new})
        checks.check_bool(**{"ExemplarMemory.code_initial_phase": self.code_initial_phase})
        if self.code_new and not self.keeps:
            raise checks.UsageError(
                f"ExemplarMemory.code_new = {self.code_new}: no exemplar is kept that could look different from new "
                "images. Leave code_new out."
            )
        if not self.code_initial_phase and not self.code_new:
            raise checks.UsageError(
                "ExemplarMemory.code_initial_phase = False: no new image is coded in any phase. Set "
                "ExemplarMemory.code_new to a probability, or code_initial_phase = True, the default."
            )
        if self.quality > 100:
            raise checks.UsageError(f"ExemplarMemory.quality = {self.quality}: expected a whole number from 1 to 100.")
        unchanged = {
            "raw": "raw pixels are not coded",
            "png": "PNG gives back the same pixels",
            "source": "files that stay as they came are not coded",
        }
        if self.codec in unchanged and self.code_new:
            what = unchanged[self.codec]
            without = "code_new = 0" if self.code_initial_phase else "code_new = 0 and code_initial_phase = True"
            raise checks.UsageError(
                f"ExemplarMemory.code_new = {self.code_new}: {what}. Set ExemplarMemory.codec to 'webp' or 'jpeg', or "
                f"{without}."
            )
        if self.codec == "raw":
            return
        if self.codec == "source" and (self.learns or self.adjust):
            wanted = f"strategy = {self.strategy!r}" if self.learns else "adjust = True"
            raise checks.UsageError(
                f"ExemplarMemory.codec = 'source' with {wanted}: pixels that were learned are no file. Set strategy = "
                "'herding' or 'random' and adjust = False, or another codec."
            )
        reasons = {"store_floats": "formats of pictures hold bytes", "low_resolution": "tiles of a mosaic would blend"}
        for name, default in (("store_floats", False), ("low_resolution", 1)):
            if getattr(self, name) != default:
                raise checks.UsageError(
                    f"ExemplarMemory.{name} = {getattr(self, name)} with codec = {self.codec!r}: {reasons[name]}. "
                    f"Leave {name} out, or set codec = 'raw'."
                )

    def _check_bytes(self) -> None:
        budgets = {name: getattr(self, name) for name in ("bytes_per_class", "total_bytes", "total")}
        given = {name: value for name, value in budgets.items() if value is not None}
        checks.check_positive_integer(**{f"ExemplarMemory.{name}": value for name, value in given.items()})
        if self.counts_bytes and self.per_class == 0:
            (name, value), *_ = given.items()
            raise checks.UsageError(
                f"ExemplarMemory.per_class = 0, which keeps no exemplars, and ExemplarMemory.{name} = {value}, which "
                "does. Leave out the file or binding that sets the budget, or the one that keeps none."
            )
        if self.counts_bytes and self.per_class != _PER_CLASS:
            given["per_class"] = self.per_class
        if self.counts_bytes and len(given) > 1:
            listed = " and ".join(f"ExemplarMemory.{name} = {value}" for name, value in given.items())
            raise checks.UsageError(
                f"{listed}: a memory has one budget, in images or in bytes. Leave the other out; one in bytes that a "
                "configuration has set goes by = None."
            )

    @property
    def counts_bytes(self) -> bool:
        """Whether the budget is one of bytes, so that the number of exemplars depends on the images."""
        return self.bytes_per_class is not None or self.total_bytes is not None

    @property
    def keeps(self) -> bool:
        """Whether any exemplars are kept."""
        return self.counts_bytes or self.total is not None or self.per_class > 0

    @property
    def learns(self) -> bool:
        """Whether the exemplars of new classes are learned, which they are by the strategy `mnemonics`."""
        return self.strategy == "mnemonics"

    @property
    def selection(self) -> str:
        """How real images are chosen: one of `SELECTIONS`."""
        return self.initial if self.learns else self.strategy

    @property
    def images_per_slot(self) -> int:
        """How many images an exemplar stands for: `low_resolution ** 2`."""
        return self.low_resolution**2

    @property
    def mode(self) -> str:
        """The kind of budget, as reported in results: `per_class_20`, `total_bytes_600000` or `none`, for example."""
        if not self.keeps:
            return "none"
        if self.bytes_per_class is not None:
            return f"bytes_per_class_{self.bytes_per_class}"
        if self.total_bytes is not None:
            return f"total_bytes_{self.total_bytes}"
        return f"per_class_{self.per_class}" if self.total is None else f"total_{self.total}"

    def count(self, num_classes: int) -> int:
        """Exemplars of each class once `num_classes` are known; with a total budget, its even share rounded down.

        Raises ValueError for a budget of bytes, of which only coded images tell how many exemplars it is.
        """
        if self.counts_bytes:
            raise ValueError("A budget of bytes is no number of exemplars: ask memory.budget.")
        return self.per_class if self.total is None else self.total // num_classes

    def share(self, num_classes: int, shared: int) -> int:
        """Bytes of each class once `num_classes` are known, which can be below 0.

        Args:
          num_classes: that share the memory.
          shared: bytes that belong to no class, which a total budget includes.
        """
        if self.bytes_per_class is not None:
            return self.bytes_per_class
        if self.total_bytes is None:
            raise ValueError("A budget of images is no number of bytes: ask count.")
        return (self.total_bytes - shared) // num_classes

    def check_fits(self, phase_sizes: Sequence[int], class_sizes: Sequence[int], num_parts: int) -> None:
        """Checks the budget against the data before anything is trained.

        A class is asked for as many images as it has exemplars in the phase where it arrives, which with a total budget
        are fewer in later phases.

        Args:
          phase_sizes: number of new classes in each phase.
          class_sizes: number of training images of each class index, `[num_classes]`.
          num_parts: parts into which adjusting splits the exemplars of each class.

        Raises:
          UsageError: a class has too few images, or the budget leaves a class too few exemplars.
        """
        if not self.keeps:
            return
        self.check_slot(min(class_sizes[: sum(phase_sizes)]))
        if self.counts_bytes:  # budgets of bytes are checked by `memory.budget`, against images
            return
        binding = self.binding
        least, known = self.count(sum(phase_sizes)), 0
        for phase, size in enumerate(phase_sizes):
            known += size
            images = self.count(known) * self.images_per_slot
            smallest = min(class_sizes[known - size : known])
            if images > smallest:
                raise checks.UsageError(
                    f"{binding} asks for {images} images of a class in phase {phase}, but the smallest class there has "
                    f"{smallest} training images. Lower it{' or low_resolution' if self.low_resolution > 1 else ''}."
                )
        self.check_leaves_some(least, sum(phase_sizes))
        if len(phase_sizes) > 1:
            self.check_parts(least, num_parts)

    def check_slot(self, num_images: int) -> None:
        """Raises UsageError if a class of so many images has too few for a single exemplar."""
        if num_images < self.images_per_slot:
            raise checks.UsageError(
                f"ExemplarMemory.low_resolution = {self.low_resolution}: an exemplar is made of {self.images_per_slot} "
                f"images, and a class has {num_images}. Add images, or lower it."
            )

    def check_leaves_some(self, num_exemplars: int, num_classes: int) -> None:
        """Raises UsageError if the budget leaves each of so many classes no exemplar."""
        if num_exemplars < 1:
            raise checks.UsageError(
                f"{self.binding} leaves no exemplar for some of {num_classes} classes. Raise it to {num_classes} or "
                "more."
            )

    def check_parts(self, num_exemplars: int, num_parts: int) -> None:
        """Checks that adjusting can split the exemplars of a class.

        Args:
          num_exemplars: exemplars of the class that has fewest.
          num_parts: parts into which they are split, each of at least one.

        Raises:
          UsageError: old exemplars are adjusted, and there are fewer than parts.
        """
        if self.adjust and num_exemplars < num_parts:
            raise checks.UsageError(
                f"{self.binding} leaves {num_exemplars} exemplars of a class, but adjusting splits each class in "
                f"{num_parts} parts. Raise it, or set ExemplarMemory.adjust = False."
            )

    @property
    def binding(self) -> str:
        """The setting that limits the exemplars, with its value."""
        for name in ("bytes_per_class", "total_bytes"):
            if getattr(self, name) is not None:
                return f"ExemplarMemory.{name} = {getattr(self, name)}"
        if self.total is not None:
            return f"ExemplarMemory.total = {self.total}"
        return f"ExemplarMemory.per_class = {self.per_class}"

    def check_image_shape(self, image_shape: tuple[int, int, int]) -> None:
        """Checks the settings against images `(H, W, C)`.

        Raises:
          UsageError: `low_resolution` does not divide height and width, or the codec cannot hold such images.
        """
        if self.codec not in ("raw", "source"):
            check_holds(self.codec, image_shape)
        if any(side % self.low_resolution for side in image_shape[:2]):
            raise checks.UsageError(
                f"ExemplarMemory.low_resolution = {self.low_resolution}: expected a divisor of both sides of the "
                f"images, {image_shape[0]} x {image_shape[1]}."
            )

    def check_place(self, streamed: bool) -> None:
        """Checks the settings against where the images of the data set are.

        Args:
          streamed: whether they stay in files.

        Raises:
          UsageError: `store_floats`, `low_resolution` or `code_new` is set, which need images in memory, or `codec` is
            `source`, which needs files.
        """
        if not streamed:
            if self.codec == "source":
                raise checks.UsageError(
                    "ExemplarMemory.codec = 'source': these images are held in memory as pixels, without their files. "
                    "Set in_memory = False of a folder or TFDS set (a learner leaves folders of more than 2 GB of "
                    "pixels in their files by itself), or codec = 'png', 'webp' or 'jpeg'."
                )
            return
        if self.code_new:
            raise checks.UsageError(
                f"ExemplarMemory.code_new = {self.code_new}: of a data set that is streamed from files, windows are "
                "decoded while networks train, and coding each of them anew would take longer than training. Set "
                "code_new = 0 and code_initial_phase = True, or keep the data set in memory (its in_memory = True)."
            )
        wanted = {"store_floats": (self.store_floats, False), "low_resolution": (self.low_resolution, 1)}
        for name, (value, expected) in wanted.items():
            if value != expected:
                raise checks.UsageError(
                    f"ExemplarMemory.{name} = {value}: exemplars of a data set that is streamed from files are uint8 "
                    f"images in a file. Set {name} = {expected}, or keep the data set in memory (its in_memory = True)."
                )

    def check_readable(self, data: LabelledImages, class_names: Sequence[str]) -> None:
        """Raises UsageError if too few images of a class could be read.

        Args:
          data: D_i, whose classes are the last that are known.
          class_names: the name of each class index.
        """
        if not self.keeps:
            return
        slots = 1 if self.counts_bytes else self.count(int(data.labels.max()) + 1)
        needed = slots * self.images_per_slot
        for label, count in zip(*np.unique(data.labels, return_counts=True), strict=True):
            if count < needed:
                setting = "low_resolution" if self.counts_bytes else "per_class" if self.total is None else "total"
                raise checks.UsageError(
                    f"Class {class_names[label]!r} has {count} images that can be read, and {needed} are needed for "
                    f"its exemplars. Add images, or lower ExemplarMemory.{setting} in a new run."
                )
