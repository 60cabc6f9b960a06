"""Layers with a parameter of each feature, which compute each feature by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._common.checks import check_finite, check_positive_int
from dlcore.nn._layers import LAYERS, BoundLayer
from dlcore.nn._options import Fixed

if TYPE_CHECKING:
    from dlcore._common.typing import Array

__all__ = ["Scale"]


class Featurewise(BoundLayer):
    """Base class of the layers with one array ``weight``, of an element for each feature."""

    in_features: Fixed[int] = Fixed(check_positive_int)
    out_features: Fixed[int] = Fixed(check_positive_int)
    init: Fixed[float] = Fixed(lambda name, value: check_finite(name, value))

    def __init__(self, num_features: int, init: float) -> None:
        check_positive_int(f"{type(self).__name__}: num_features", num_features)
        self.in_features = self.out_features = num_features
        self.init = init

    @property
    def weight(self) -> Array:
        """The parameter of each feature; ``layer.weight = w`` changes it in place."""
        return self._bound["weight"]

    @weight.setter
    def weight(self, values: Any) -> None:
        self._fill_in("weight", values)

    @property
    def _options(self) -> dict[str, Any]:
        return {"num_features": self.in_features, "init": self.init}

    @property
    def _parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"weight": (self.in_features,)}

    def _initial_parameters(self, rng: np.random.Generator) -> dict[str, Array]:  # noqa: ARG002
        return {n: np.full(shape, self.init) for n, shape in self._parameter_shapes.items()}


class Scale(Featurewise):
    """Multiply each feature by a factor that is learned: ``y = x * weight``.

    As the first layer, with a greater learning rate than the others, it makes a soft choice of the
    features: those that help grow, the others shrink.

    Parameters
    ----------
    num_features : int
        Width of x and of y.
    init : float
        What ``weight`` of shape (num_features,) begins with.

    References
    ----------
    Holzmüller, Grinsztajn, Steinwart: Better by default: strong pre-tuned MLPs and boosted trees on
    tabular data, NeurIPS 2024 (the scaling layer).

    Examples
    --------
    >>> import numpy as np, dlcore as dl
    >>> model = dl.Sequential(dl.Scale(3), dl.Linear(3, 1), seed=0)
    >>> model[0].weight = np.array([1, 0, 2], np.float32)
    >>> bool(model(np.array([[0, 5, 0]], np.float32)) == model[1].bias)
    True
    """

    def __init__(self, num_features: int, init: float = 1.0) -> None:
        super().__init__(num_features, init)


LAYERS |= {kind.__name__: kind for kind in (Scale,)}
