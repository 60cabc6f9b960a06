"""What a training step is made of, as a value: what callbacks may change from epoch to epoch."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from dlcore._common.protocols import Model, Optimizer
    from dlcore.nn._losses import Loss


_PLAIN = (int, float, str, type(None))


def settings_of(model: Model, loss: Loss, optimizer: Optimizer) -> tuple[Any, ...]:
    """Return a value that is another one once a native step must be described anew.

    That takes microseconds. Options of the optimizer are no part of it: each step reads them.
    """
    params = getattr(optimizer, "params", ())
    return (
        id(optimizer),
        [*map(id, params)],
        id(model.flat),
        model.frozen,
        [layer._settings for layer in model.layers],
        loss_settings(loss),
    )


def loss_settings(loss: Loss) -> list[Any]:
    """Return the options of a loss, as they are now."""
    return [(name, _value(value)) for name, value in vars(loss).items()]


def plain_settings(loss: Loss) -> tuple[Any, ...] | None:
    """Return the options of a loss if all are numbers and names, which cannot change in place."""
    values = (*vars(loss).values(),)
    return values if all(isinstance(value, _PLAIN) for value in values) else None


def has_settings(loss: Loss, plain: tuple[Any, ...]) -> bool:
    """Whether the options of a loss are the same objects as before."""
    own = vars(loss)
    return len(own) == len(plain) and all(map(operator.is_, own.values(), plain))


def _value(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.dtype, value.shape, value.tobytes()
    if isinstance(value, (list, tuple)):
        return [*map(_value, value)]
    if isinstance(value, _PLAIN):
        return value
    # A loss of several has others of this package; what else it holds is compared by identity.
    module = type(value).__module__
    if module == "dlcore.nn._losses":
        return type(value), loss_settings(value)
    return id(value)
