"""The members of an ensemble that are the best together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dlcore._common.typing import Array
    from dlcore.many._mean import Mean


def selected(
    outputs: Sequence[Array], loss_of: Callable[[Array], float], mean: Mean, keep: int | None
) -> list[int]:
    """Choose members greedily: always the one with which the loss of all together is least.

    Parameters
    ----------
    outputs : sequence of ndarray of shape (N, out_features)
        Of each member.
    loss_of : callable
        The loss of outputs; NaN is the worst.
    mean : Mean
        Of no outputs yet.
    keep : int or None
        How many; None stops where no further one makes it better.

    Returns
    -------
    list of int
        The members in the order in which they were chosen, each once; of equal ones the first.

    References
    ----------
    Caruana et al.: Ensemble selection from libraries of models, ICML 2004.
    """
    chosen: list[int] = []
    left, best = list(range(len(outputs))), np.inf
    while left and len(chosen) != keep:
        losses = np.array([loss_of(mean.with_(outputs[i]).outputs()) for i in left])
        losses[np.isnan(losses)] = np.inf  # which `argmin` would take for the least
        place = int(losses.argmin())
        if keep is None and chosen and not losses[place] < best:
            break
        best, i = losses[place], left.pop(place)
        mean.add(outputs[i])
        chosen.append(i)
    return chosen
