"""The mean over ranks of what each of them has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore.nn._chains import leaves_of
from dlcore.nn._layers import BatchNorm1d

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dlcore._common.protocols import Model
    from dlcore._common.ranks import Ranks
    from dlcore._common.typing import Array


def take_mean(ranks: Ranks, arrays: Sequence[Array], weight: float) -> None:
    """Put the mean over the ranks, each of which has this weight, into arrays of one dtype.

    Where no rank weighs anything they stay as they are.
    """
    weights = ranks.all_gather(np.array([weight], np.float64)).ravel()
    if not weights.any():
        return
    whole = np.concatenate([array.ravel() for array in arrays])
    # What is multiplied by is divided by as well, as it was rounded: means of means do not drift.
    shares = (weights / weights.max()).astype(whole.dtype)
    if shares[ranks.rank] != 1:
        whole *= shares[ranks.rank]
    whole = ranks.sum(whole)
    whole /= shares.sum()
    start = 0
    for array in arrays:
        array[...] = whole[start : start + array.size].reshape(array.shape)
        start += array.size


def most(ranks: Ranks, counts: Sequence[Any]) -> list[int]:
    """Return the largest of each count on any rank."""
    largest: list[int] = ranks.all_gather(np.array(counts, np.int64)).max(0).tolist()
    return largest


def take_mean_of_model(
    ranks: Ranks, model: Model, weight: float, others: Sequence[Array] = ()
) -> None:
    """Take the mean of other arrays and of the running statistics of a model's batch norms.

    Frozen ones stay as they are.
    """
    norms = [
        layer
        for name, layer in leaves_of(model.layers).items()
        if isinstance(layer, BatchNorm1d) and f"{name}.running_mean" not in model.frozen
    ]
    running = [array for norm in norms for array in (norm.running_mean, norm.running_var)]
    if not running and not others:
        return
    take_mean(ranks, [*others, *running], weight)
    if not norms:
        return
    counts = most(ranks, [int(norm.num_batches_tracked) for norm in norms])
    for norm, count in zip(norms, counts, strict=True):
        norm.num_batches_tracked[...] = count
