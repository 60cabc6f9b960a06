"""Layers with a parameter of each feature, which compute each feature by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._common.checks import check_finite, check_name, check_positive_int
from dlcore.nn._layers import ACTIVATIONS, LAYERS, Activation, BoundLayer
from dlcore.nn._options import ArrayAttribute, Fixed

if TYPE_CHECKING:
    from dlcore._common.typing import Array

__all__ = ["PReLU", "ParametricActivation", "Scale"]


def _check_width(name: str, value: Any) -> int | None:
    return None if value is None else check_positive_int(name, value)


class Featurewise(BoundLayer):
    """Base class of the layers with one array ``weight``, of an element for each feature."""

    in_features: Fixed[int | None] = Fixed(_check_width)
    out_features: Fixed[int | None] = Fixed(_check_width)
    init: Fixed[float] = Fixed(lambda name, value: check_finite(name, value))

    def __init__(self, num_features: int, init: float) -> None:
        check_positive_int(f"{type(self).__name__}: num_features", num_features)
        self.in_features = self.out_features = num_features
        self.init = init

    weight: ArrayAttribute[Array] = ArrayAttribute(
        "The parameter of each feature; ``layer.weight = w`` changes it in place."
    )

    @property
    def _options(self) -> dict[str, Any]:
        return {"num_features": self.in_features, "init": self.init}

    @property
    def _parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        assert self.in_features is not None
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


class ParametricActivation(Featurewise):
    """Between x and an activation of it, by a weight that is learned: ``y = x + weight * (f(x) - x)``.

    At 1, where the weights begin, it is the activation, at 0 the identity.

    Parameters
    ----------
    num_features : int
        Width of x and of y.
    activation : str
        The name of f, such as "mish" or "selu".
    init : float
        What ``weight`` of shape (num_features,) begins with.

    Notes
    -----
    Where f(x) is x, so is y, at infinity as well; where an infinite x has a finite f(x), y is NaN.

    References
    ----------
    Holzmüller, Grinsztajn, Steinwart: Better by default: strong pre-tuned MLPs and boosted trees on
    tabular data, NeurIPS 2024 (parametric activations).

    Examples
    --------
    >>> import dlcore as dl
    >>> model = dl.Sequential(
    ...     dl.Linear(4, 32), dl.ParametricActivation(32, "selu"), dl.Linear(32, 1), seed=0
    ... )
    >>> model[1].weight.shape
    (32,)
    """

    activation: Fixed[str] = Fixed(
        lambda name, value: check_name(name, value, ACTIVATIONS, otherwise="")
    )

    def __init__(self, num_features: int, activation: str = "mish", init: float = 1.0) -> None:
        super().__init__(num_features, init)
        self.activation = activation

    _shown = ("activation",)

    @property
    def _options(self) -> dict[str, Any]:
        return {
            "num_features": self.in_features,
            "activation": self.activation,
            "init": self.init,
        }

    @property
    def _function(self) -> Activation:
        return ACTIVATIONS[self.activation]()


class PReLU(Featurewise):
    """``x`` where x > 0, else ``weight * x`` with a slope that is learned, PyTorch's layer of that name.

    Parameters
    ----------
    num_parameters : int
        1, for one slope of all features, or the number of features.
    init : float
        What ``weight`` of shape (num_parameters,) begins with.

    Notes
    -----
    At 0 the slope is that of the left side, as in PyTorch.

    References
    ----------
    He, Zhang, Ren, Sun: Delving deep into rectifiers: surpassing human-level performance on ImageNet
    classification, ICCV 2015.
    """

    num_parameters: Fixed[int] = Fixed(check_positive_int)

    def __init__(self, num_parameters: int = 1, init: float = 0.25) -> None:
        self.num_parameters = num_parameters
        self.in_features = self.out_features = num_parameters if num_parameters > 1 else None
        self.init = init

    _shown = ("num_parameters", "init")

    @property
    def _options(self) -> dict[str, Any]:
        return {"num_parameters": self.num_parameters, "init": self.init}

    @property
    def _parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"weight": (self.num_parameters,)}


LAYERS |= {kind.__name__: kind for kind in (PReLU, ParametricActivation, Scale)}
