"""The mean over ranks of what each of them has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore.nn._chains import leaves_of
from dlcore.nn._layers import BatchNorm1d

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dlcore._common.protocols import Model
    from dlcore._common.ranks import Ranks
    from dlcore._common.typing import Array


# Numbers of a message: the caches hold them while they are copied, summed and divided.
_NUMBERS = 1 << 16


def take_mean(ranks: Ranks, arrays: Sequence[Array], weight: float) -> None:
    """Put the mean over the ranks, each of which has this weight, into arrays of one dtype.

    Where no rank weighs anything they stay as they are.
    """
    weights = ranks.all_gather(np.array([weight], np.float64)).ravel()
    if not weights.any():
        return
    # What is multiplied by is divided by as well, as it was rounded: means of means do not drift.
    shares = (weights / weights.max()).astype(arrays[0].dtype)
    for parts in _messages(arrays):
        whole = np.concatenate(parts)
        if shares[ranks.rank] != 1:
            whole *= shares[ranks.rank]
        whole = ranks.sum(whole)
        whole /= shares.sum()
        start = 0
        for part in parts:
            part[...] = whole[start : start + part.size]
            start += part.size


def _messages(arrays: Sequence[Array]) -> Iterator[list[Array]]:
    """Cut contiguous arrays into lists of parts, of about as many numbers as the caches hold."""
    parts: list[Array] = []
    size = 0
    for array in arrays:
        flat = array.reshape(-1)
        for begin in range(0, flat.size, _NUMBERS):
            parts.append(flat[begin : begin + _NUMBERS])
            size += parts[-1].size
            if size >= _NUMBERS:
                yield parts
                parts, size = [], 0
    if parts:
        yield parts


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
