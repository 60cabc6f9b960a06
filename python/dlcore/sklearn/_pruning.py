"""Members that are kept: those that are the best together on rows to validate on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore.many._mean import Mean
from dlcore.many._selection import selected
from dlcore.metrics._accumulation import of_loss
from dlcore.nn._architecture import describe_architecture, make_model
from dlcore.nn._chains import leaves_of
from dlcore.nn._members import MemberLayer
from dlcore.training._evaluation import outputs_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dlcore._common.typing import Array
    from dlcore.nn._losses import Loss
    from dlcore.nn._sequential import Sequential

# Rows that are computed at once.
_ROWS = 4096


def best_models(
    models: Sequence[Sequential], rows: tuple[Array, Array, Array | None], loss: Loss, mean: Mean,
    keep: int,
) -> list[int]:  # fmt: skip
    """Return the places, in ascending order, of the models whose mean has the least loss."""
    outputs = [outputs_of(model, rows[0], _ROWS) for model in models]
    return _best(outputs, rows, loss, mean, keep)


def with_best_members(
    model: Sequential, rows: tuple[Array, Array, Array | None], loss: Loss, keep: int
) -> Sequential:
    """Return a network with the members of this one, which share weights, that are best together.

    Its last layer is an `EnsembleMean`.
    """
    last: Any = model[-1]
    k = next(leaf.k for leaf in leaves_of(model.layers).values() if isinstance(leaf, MemberLayer))
    every = outputs_of(model[:-1], rows[0], _ROWS)
    outputs = [np.ascontiguousarray(own) for own in np.split(every, k, axis=1)]
    return _with_members(model, _best(outputs, rows, loss, Mean(last.of), keep))


def _best(
    outputs: Sequence[Array],
    rows: tuple[Array, Array, Array | None],
    loss: Loss,
    mean: Mean,
    keep: int,
) -> list[int]:
    _, y, weight = rows
    metric = of_loss(loss)

    def loss_of(some: Array) -> float:
        return metric(y, some, weight)

    return sorted(selected(outputs, loss_of, mean, keep))


def _with_members(model: Sequential, members: list[int]) -> Sequential:
    """Return a network with some of its members, whose layers are not among those of branches."""
    architecture, arrays = describe_architecture(model), model.state_dict()
    for i, (layer, described) in enumerate(zip(model, architecture["layers"], strict=True)):
        if not isinstance(layer, MemberLayer):
            continue
        described["options"] = described["options"] | {"k": len(members)}
        for name in layer._of_members:
            arrays[f"{i}.{name}"] = arrays[f"{i}.{name}"][members]
    return make_model(architecture, arrays, {})
