"""A later phase of a network, simulated with classes that it knows: where its training starts, and its losses."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from mnemonics_tf import losses
from mnemonics_tf.bilevel.inner_sgd import Params
from mnemonics_tf.data.types import ClassGroups
from mnemonics_tf.models.classifier import Classifier, Outputs
from mnemonics_tf.models.functional import functional_call
from mnemonics_tf.models.heads import LinearHead


@dataclasses.dataclass(frozen=True)
class LaterPhase:
    """How the base method trains a later phase.

    Attributes:
      losses: `Method.losses`.
      distils: whether they look at the network before the phase.
      imprints: whether the head's weights of new classes are imprinted; otherwise they are random.
      trains_old_head: whether the head's weights of old classes are trained.
      averages_images: see `Method.averages_images`. True by default.
      transfers: whether weight transfer holds the backbone's kernels fixed. False by default. Scale and shift, which it
        trains in their place, do here what batch norm's do.
    """

    losses: Callable[[Outputs, Outputs | None, tf.Tensor, ClassGroups], dict[str, tf.Tensor]]
    distils: bool
    imprints: bool
    trains_old_head: bool
    averages_images: bool = True
    transfers: bool = False


class Simulation:
    """The network in a simulated phase.

    Classes keep their places in the network. For losses they stand in another order, pseudo-old ones before pseudo-new
    ones; variables say which, so that all draws share what was compiled.

    Args:
      model: Θ_i; not changed. It is where the training starts, and the teacher.
      batch_norm: of the temporary model: `frozen` statistics, or those of each `batch`.
      phase: how the method trains a later phase.
      num_new: how many classes play new ones, the same in all draws.
    """

    def __init__(self, model: Classifier, batch_norm: str, phase: LaterPhase, num_new: int):
        self._model, self._batch_norm, self.phase, self.num_new = model, batch_norm, phase, num_new
        self._groups = ClassGroups((model.num_classes - num_new, num_new))
        self._order = tf.Variable(np.arange(model.num_classes), trainable=False, name="order")
        self._is_new = tf.Variable(tf.zeros(model.num_classes), trainable=False, name="is_new")
        held = (
            {id(kernel) for layer in model.scale_shift_layers for kernel in layer.kernels} if phase.transfers else set()
        )
        self._is_trained = [id(variable) not in held for variable in model.trainable_variables]
        places = {id(variable): place for place, variable in enumerate(self.variables)}
        self._by_class: dict[str, list[int]] = {}
        for name in ("kernel", "bias") if isinstance(model.head, LinearHead) else ("kernel",):
            parts = [getattr(model.head, f"{age}_{name}") for age in ("old", "new")]
            self._by_class[name] = [places[id(part)] for part in parts if part is not None]

    @property
    def variables(self) -> list[keras.Variable]:
        """Those that the phase trains, in the order of parameters. Of the head's, rows of old classes may be fixed."""
        pairs = zip(self._model.trainable_variables, self._is_trained, strict=True)
        return [variable for variable, is_trained in pairs if is_trained]

    @property
    def kernel_shape(self) -> tuple[int, int]:
        """Of the head's kernel of all classes, `(d, (K + M) * columns_per_class)`."""
        return tuple(self._model.head.by_class("kernel").shape)

    @property
    def columns_per_class(self) -> int:
        """Columns of the head's kernel that belong to a class: the number of its proxies, 1 without any."""
        return self.kernel_shape[-1] // self._model.num_classes

    def draw(self, new_classes: np.ndarray) -> np.ndarray:
        """Makes these classes the new ones.

        Args:
          new_classes: class indices, `[num_new]`.

        Returns:
          The label of each class in the simulated phase, `[K + M]` int64.
        """
        is_new = np.isin(np.arange(self._model.num_classes), new_classes)
        order = np.concatenate([np.flatnonzero(~is_new), np.flatnonzero(is_new)])
        self._order.assign(order)
        self._is_new.assign(is_new.astype(np.float32))
        return np.argsort(order)

    def start(self, columns_of_all: np.ndarray) -> Params:
        """Θ_i, but for the head's weights of the classes that were drawn.

        Args:
          columns_of_all: the weights of all classes, `[d, (K + M) * columns_per_class]`, as new ones begin. Imprinted
            ones are directions of length 1, which get the mean length of those of pseudo-old classes.
        """
        params = [tf.convert_to_tensor(variable) for variable in self.variables]
        is_new = self._is_new.numpy() > 0
        kernel = self._model.head.by_class("kernel").numpy()
        columns = np.repeat(is_new, kernel.shape[1] // len(is_new))
        length = np.linalg.norm(kernel[:, ~columns], axis=0).mean() if self.phase.imprints else 1.0
        self._put(params, "kernel", np.where(columns, columns_of_all * length, kernel))
        if "bias" in self._by_class:
            self._put(params, "bias", np.where(is_new, 0, self._model.head.by_class("bias").numpy()))
        return params

    def _put(self, params: Params, name: str, values: np.ndarray) -> None:
        """Replaces what `params` have of a kind of the head's weights by values for all classes."""
        first = 0
        for place in self._by_class[name]:
            width = params[place].shape[-1]
            params[place] = tf.constant(values[..., first : first + width], params[place].dtype)
            first += width

    def features(self, images: tf.Tensor) -> tf.Tensor:
        """Embeddings `[B, d]` of normalised images by Θ_i."""
        return self._model.backbone(images, training=False)

    def inner_loss(self, params: Sequence[tf.Tensor], images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """The method's loss of a batch: a scalar. Labels are those that `draw` gave."""
        outputs = self._call(params, images)
        teacher = self._teacher(images) if self.phase.distils else None
        with losses.differentiated_twice():
            return tf.add_n(list(self.phase.losses(outputs, teacher, labels, self._groups).values()))

    def outer_loss(self, params: Sequence[tf.Tensor], images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Cross-entropy of all classes: a scalar."""
        return tf.reduce_mean(losses.cross_entropy(self._call(params, images).logits, labels))

    def _call(self, params: Sequence[tf.Tensor], images: tf.Tensor) -> Outputs:
        outputs = functional_call(self._model, self._of_all(params), images, self._batch_norm)
        logits, head = outputs.logits, self._model.head
        if head.corrected:  # pseudo-new classes begin without a correction, as new ones do
            logits = tf.where(self._is_new > 0, (logits - head.by_class("offset")) / head.by_class("gain"), logits)
        return outputs._replace(
            scores=tf.gather(outputs.scores, self._order, axis=1), logits=tf.gather(logits, self._order, axis=1)
        )

    def _teacher(self, images: tf.Tensor) -> Outputs:
        """What Θ_i says of pseudo-old classes; a function of the images, which may be exemplars."""
        outputs, old = self._model(images, training=False), self._order[: self._groups.num_old_classes]
        return outputs._replace(
            scores=tf.gather(outputs.scores, old, axis=1), logits=tf.gather(outputs.logits, old, axis=1)
        )

    def _of_all(self, params: Sequence[tf.Tensor]) -> Params:
        """What takes the place of all trainable variables: the parameters, and Θ_i's weights that the phase holds."""
        trained = self._with_fixed_head(params)
        pairs = zip(self._model.trainable_variables, self._is_trained, strict=True)
        rest = iter(trained)
        return [next(rest) if is_trained else tf.convert_to_tensor(variable) for variable, is_trained in pairs]

    def _with_fixed_head(self, params: Sequence[tf.Tensor]) -> Params:
        """The parameters, with Θ_i's weights of the head of old classes where the method fixes them.

        Weight decay, which knows nothing of classes, would shrink their parameters.
        """
        params, variables = list(params), self.variables
        if self.phase.trains_old_head:
            return params
        for name, places in self._by_class.items():
            trained, first = tf.repeat(self._is_new, self.columns_per_class if name == "kernel" else 1), 0
            for place in places:
                values, width = params[place], params[place].shape[-1]
                own = trained[first : first + width]
                params[place] = own * values + (1 - own) * tf.convert_to_tensor(variables[place])
                first += width
        return params
