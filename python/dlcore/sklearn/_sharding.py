"""What ranks that fit an estimator together, each with rows of its own, must know of each other's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse

from dlcore._common.agreement import raised_on_all
from dlcore.sklearn import _batches
from dlcore.sklearn._early_stopping import joined
from dlcore.training import _sharding as training

if TYPE_CHECKING:
    from dlcore._common.ranks import Ranks
    from dlcore._common.typing import Array
    from dlcore.sklearn._batches import ScaledLoss
    from dlcore.sklearn._early_stopping import Validation
    from dlcore.training._dataset import Dataset


class ShardedBatches(_batches.ScaledBatches, training.ShardedBatches):
    """Mini-batches of all ranks together, whose losses and gradients are scaled as scikit-learn's."""

    def __init__(
        self,
        loss: ScaledLoss,
        rows: Dataset,
        batch_size: int,
        index: Array | None,
        ranks: Ranks,
    ) -> None:
        self._begin(loss, rows, index)
        super().__init__(loss.loss, rows, self._given, batch_size, 1, ranks)
        own = np.diff(self._starts, append=len(self._index))
        self._lengths = ranks.sum(np.pad(own, (0, len(self) - len(own))).astype(np.float64))


def all_labels(y: Any, ranks: Ranks | None) -> tuple[Any, Array | None]:
    """Return labels among which is each that ranks have, and how often it is there.

    Where there are no ranks, those are y, and None.
    """
    if ranks is None:
        return y, None
    with raised_on_all(ranks):
        y = y.toarray() if scipy.sparse.issparse(y) else y
        if y.ndim == 2 and y.dtype.kind == "O":  # rows of objects have no order
            own = y, np.ones(len(y), np.int64)
        else:
            own = np.unique(y, axis=0, return_counts=True)
    # Numbers beside texts would become texts in silence.
    kind = "text" if y.dtype.kind in "USO" else "numbers"
    training.check_alike(ranks, **{"the kind of y": kind, "the columns of y": y.shape[1:]})
    labels, counts = zip(*ranks.of_each(own), strict=True)
    return np.concatenate(labels), np.concatenate(counts)


def all_to_validate_on(held: Validation, ranks: Ranks) -> tuple[Any, Array, Array | None]:
    """Return X, the encoded y and the weights of the rows that all ranks hold out."""
    parts = ranks.of_each((held.X, held.encoded, held.sample_weight))
    X, encoded, weights = (list(of_rank) for of_rank in zip(*parts, strict=True))
    has_weights = any(own is not None for own in weights)
    ones = [
        np.ones(len(own)) if weight is None else weight
        for own, weight in zip(encoded, weights, strict=True)
    ]
    return joined(X), joined(encoded), joined(ones) if has_weights else None
