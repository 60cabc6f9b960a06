"""The passes of a model called one by one: forward, back, and the gradients in between."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._native import dispatch
from dlcore.nn._inference import describe
from dlcore.nn._members import check_means_end
from dlcore.nn._options import changes

if TYPE_CHECKING:
    from collections.abc import Callable

    from dlcore._common.protocols import Model
    from dlcore._common.typing import Array


class Passes:
    """What a model keeps from one pass to the next.

    Parameters
    ----------
    model : Model
    width : int
        Features of x.
    rows : int
        The most rows of x.
    gradient : ndarray
        Where the gradients of the parameters go, laid out as ``model.flat``.
    key : int
        What has drawn what layers have drawn last.
    """

    __slots__ = ("_native", "_settings", "backward", "forward", "grads", "seen", "width")

    def __init__(self, model: Model, width: int, rows: int, gradient: Array, key: int) -> None:
        check_means_end(model.layers)
        self.seen = changes.count
        self.width = width
        self._settings = _settings(model)
        frozen = model.frozen
        grads = model._split(gradient)
        trained = {name: grad for name, grad in grads.items() if name not in frozen}
        # By the name of each parameter; None for one that is frozen.
        self.grads: dict[str, Array | None] = {name: trained.get(name) for name in grads}
        self._native = dispatch.core.Passes(
            model.dtype == np.float64, describe(model.layers, width, frozen, trained), rows, key
        )
        # f(x): the outputs, or None where x is not as it should be, or has more rows.
        self.forward: Callable[[Any], Array | None] = self._native.forward
        # f(dy, add): the gradient of x, or None where dy is not as it should be.
        self.backward: Callable[[Any, bool], Array | None] = self._native.backward

    @property
    def key(self) -> int:
        """What has drawn what layers have drawn last."""
        return self._native.key

    @property
    def rows(self) -> int:
        """Rows of the pass forward that can go back; -1 if there is none."""
        return self._native.rows

    def is_of(self, model: Model) -> bool:
        """Whether the model is still as it was described."""
        if self.seen != changes.count:
            if self._settings != _settings(model):
                return False
            self.seen = changes.count
        return True


def _settings(model: Model) -> tuple[Any, ...]:
    return id(model.flat), model.frozen, [layer._settings for layer in model.layers]
