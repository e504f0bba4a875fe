"""Ridge regression from sums that grow: Gram matrices added up in float64, and solved by Cholesky.

With rows u of units and one-hot targets y, the weights that minimise sum |u W - y|^2 + penalty |W|^2 are

    W = (G + penalty I)^-1 C    with the Gram matrix G = sum u^T u and the sums of classes C = sum u^T y

so that G and C are all that has to be kept of the rows, and rows are taken back by subtracting theirs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import linalg, optimize, special


class Sums:
    """G and C of rows that are added a batch at a time.

    Attributes:
      gram: G, `[U, U]` float64, of which only the lower triangle counts.
      of_classes: C, `[U, num_classes]` float64: the sum of the units of each class.

    Args:
      num_units: U.
      num_classes: columns of C.
    """

    def __init__(self, num_units: int, num_classes: int):
        # By columns, as LAPACK has matrices: it then adds to them in place.
        self.gram = np.zeros((num_units, num_units), order="F")
        self.of_classes = np.zeros((num_units, num_classes))

    @classmethod
    def unpacked(cls, triangle: np.ndarray, of_classes: np.ndarray) -> Sums:
        """Those whose lower triangle and sums of classes were kept; both are copied."""
        sums = cls(*of_classes.shape)
        sums.of_classes += of_classes
        end = 0
        for column in range(len(sums.gram)):
            start, end = end, end + len(sums.gram) - column
            sums.gram[column:, column] = triangle[start:end]
        return sums

    def arrays(self) -> dict[str, np.ndarray]:
        """Both sums, for a snapshot."""
        return {"gram": self.triangle(), "sums": self.of_classes}

    def take(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Goes on from what `arrays` gave. Raises ValueError, before anything is changed, if it is of another size."""
        if arrays["sums"].shape != self.of_classes.shape or arrays["gram"].shape != self.triangle().shape:
            raise ValueError("it is of another number of units or classes")
        kept = Sums.unpacked(arrays["gram"], arrays["sums"])
        self.gram, self.of_classes = kept.gram, kept.of_classes

    def triangle(self) -> np.ndarray:
        """The lower triangle of G, column after column, `[U (U + 1) / 2]`: half of the bytes."""
        return np.concatenate([self.gram[column:, column] for column in range(len(self.gram))])

    def add(self, units: np.ndarray, labels: np.ndarray) -> None:
        """Adds rows `[n, U]`, at least one, of classes `[n]`.

        Float32 rows are multiplied in float64: a sum over a million images has more digits than float32.
        """
        rows = units.astype(np.float64)
        self.gram = linalg.blas.dsyrk(1.0, rows.T, beta=1.0, c=self.gram, lower=1, overwrite_c=1)
        one_hot = np.zeros((len(labels), self.of_classes.shape[1]))
        one_hot[np.arange(len(labels)), labels] = 1.0
        self.of_classes += rows.T @ one_hot

    def weights(self, penalty: float) -> np.ndarray:
        """W, `[U, num_classes]` float64, by Cholesky.

        Args:
          penalty: above 0. Where it is so small that rounding makes the matrix indefinite, the next larger power of
            ten that does not is taken.
        """
        while True:
            matrix = self.gram.copy(order="F")
            matrix[np.diag_indices(len(matrix))] += penalty
            try:
                factor = linalg.cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
            except linalg.LinAlgError:
                penalty *= 10.0
            else:
                return linalg.cho_solve(factor, self.of_classes, check_finite=False)


def best_penalty(sums: Sums, units: np.ndarray, labels: np.ndarray, penalties: Sequence[float]) -> tuple[float, float]:
    """The penalty whose weights have the least squared error on held-out rows, and the gain that makes outputs logits.

    Few held-out rows of few classes may all be right whatever the penalty is: their number would choose none.

    Args:
      sums: of the rows that are not held out.
      units: held-out rows, `[n, U]`, at least one.
      labels: their classes, `[n]`.
      penalties: candidates, above 0.

    Returns:
      The penalty; and the gain, above 0, by which the softmax of `gain * outputs` has the least cross-entropy on them.
    """
    rows, targets = units.astype(np.float64), np.eye(sums.of_classes.shape[1])[labels]
    found = [rows @ sums.weights(penalty) for penalty in penalties]
    best = int(np.argmin([np.sum((outputs - targets) ** 2) for outputs in found]))
    return penalties[best], calibrated_gain(found[best], labels)


def calibrated_gain(outputs: np.ndarray, labels: np.ndarray) -> float:
    """The gain in 1..1000 that gives `softmax(gain * outputs)` the least cross-entropy with smoothed targets.

    Rows that are all right would ask for any gain at all, however few they are. As in Platt's scaling (1999), a row's
    own class has the target (n + 1) / (n + 2), and the others share the rest: what n right rows in n say of the next.

    Args:
      outputs: of held-out rows, `[n, num_classes]`.
      labels: their classes, `[n]`.
    """
    num_rows, num_classes = outputs.shape
    if num_classes == 1:
        return 1.0
    targets = np.full(outputs.shape, 1.0 / (num_rows + 2) / (num_classes - 1))
    targets[np.arange(num_rows), labels] = (num_rows + 1) / (num_rows + 2)
    expected = np.sum(targets * outputs, axis=1)

    def cross_entropy(exponent: float) -> float:
        gain = math.exp(exponent)
        return float(np.mean(special.logsumexp(gain * outputs, axis=1) - gain * expected))

    return math.exp(optimize.minimize_scalar(cross_entropy, bounds=(0.0, math.log(1000.0)), method="bounded").x)
