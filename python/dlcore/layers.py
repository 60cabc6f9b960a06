"""The layers of a network: descriptions, to which a `Sequential` gives their parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

if TYPE_CHECKING:
    from ._typing import Array


class Layer:
    """Base class of the layers: nothing to learn, as many features out as in."""

    in_features: int | None = None
    out_features: int | None = None
    is_bound: bool = False

    @property
    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of each parameter, in the order of ``state_dict``."""
        return {}

    def initial_parameters(self, rng: np.random.Generator) -> dict[str, Array]:  # noqa: ARG002
        """Draw the initial value of each parameter, in float64."""
        return {}

    def bind(self, parameters: dict[str, Array]) -> None:
        """Take the arrays that hold the parameters from now on."""


class Linear(Layer):
    """``y = x @ weight.T + bias``, PyTorch's layer of that name.

    Parameters
    ----------
    in_features, out_features : int
        Width of x, of shape (N, in_features), and of y, of shape (N, out_features).
    bias : bool
        Whether to add a bias.

    Notes
    -----
    The parameters come into being when a `Sequential` takes the layer, and live in that model;
    a layer cannot be part of two. Their initial values are uniform in ±1/sqrt(in_features), which
    is what PyTorch draws: Kaiming's uniform initialisation (He et al., 2015) with a = sqrt(5).
    """

    in_features: int
    out_features: int

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        for name, value in (("in_features", in_features), ("out_features", out_features)):
            check_positive_int(f"Linear: {name}", value)
        self.in_features = int(in_features)
        self.out_features = int(out_features)
        self.has_bias = bool(bias)
        self._parameters: dict[str, Array] | None = None

    @property
    def weight(self) -> Array:
        """Weights of shape (out_features, in_features); ``layer.weight[...] = w`` changes them."""
        return self._bound["weight"]

    @property
    def bias(self) -> Array | None:
        """Bias of shape (out_features,), or None."""
        return self._bound["bias"] if self.has_bias else None

    @property
    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of ``weight`` and, if there is one, of ``bias``."""
        shapes: dict[str, tuple[int, ...]] = {"weight": (self.out_features, self.in_features)}
        if self.has_bias:
            shapes["bias"] = (self.out_features,)
        return shapes

    def initial_parameters(self, rng: np.random.Generator) -> dict[str, Array]:
        """Draw weight, then bias, from the uniform distribution in ±1/sqrt(in_features)."""
        bound = 1 / math.sqrt(self.in_features)
        shapes = self.parameter_shapes.items()
        return {name: rng.uniform(-bound, bound, shape) for name, shape in shapes}

    def bind(self, parameters: dict[str, Array]) -> None:
        """Take the arrays that hold the parameters from now on."""
        self._parameters = parameters
        self.is_bound = True

    @property
    def _bound(self) -> dict[str, Array]:
        if self._parameters is None:
            raise RuntimeError(f"{self!r} has no parameters before it is part of a Sequential")
        return self._parameters

    # A copied or unpickled layer is bound anew by its model, whose array holds the values.
    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_parameters": None, "is_bound": False}

    def __repr__(self) -> str:
        bias = "" if self.has_bias else ", bias=False"
        return f"Linear({self.in_features}, {self.out_features}{bias})"


@dataclass(frozen=True)
class Activation(Layer):
    """Base class of the activations: the fields of a subclass are the options of its kernel."""

    kernel: ClassVar[str]

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments of the kernel and of its backward."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class ReLU(Activation):
    """`dlcore.relu` as a layer."""

    kernel = "relu"


@dataclass(frozen=True)
class LeakyReLU(Activation):
    """`dlcore.leaky_relu` as a layer."""

    kernel = "leaky_relu"
    negative_slope: float = 0.01


@dataclass(frozen=True)
class ELU(Activation):
    """`dlcore.elu` as a layer."""

    kernel = "elu"
    alpha: float = 1.0


@dataclass(frozen=True)
class GELU(Activation):
    """`dlcore.gelu` as a layer; ``approximate`` is "none" or "tanh"."""

    kernel = "gelu"
    approximate: str = "none"

    def __post_init__(self) -> None:
        if self.approximate not in ("none", "tanh"):
            raise ValueError(
                f"GELU: approximate must be 'none' or 'tanh', not {self.approximate!r}"
            )


@dataclass(frozen=True)
class SiLU(Activation):
    """`dlcore.silu` as a layer."""

    kernel = "silu"


@dataclass(frozen=True)
class Sigmoid(Activation):
    """`dlcore.sigmoid` as a layer."""

    kernel = "sigmoid"


@dataclass(frozen=True)
class Tanh(Activation):
    """`dlcore.tanh` as a layer."""

    kernel = "tanh"


@dataclass(frozen=True)
class Softplus(Activation):
    """`dlcore.softplus` as a layer."""

    kernel = "softplus"
    beta: float = 1.0
    threshold: float = 20.0


def check_positive_int(name: str, value: object) -> None:
    """Raise ValueError for what is not a positive integer."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be a positive integer, not {value!r}")
