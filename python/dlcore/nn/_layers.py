"""The layers of a network: descriptions, to which a `Sequential` gives their parameters."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from dlcore._common.checks import (
    check_choice,
    check_finite,
    check_flag,
    check_in,
    check_number,
    check_positive,
    check_positive_int,
    check_real,
)
from dlcore.nn._options import ArrayAttribute, Fixed, Option, fill_in

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal, TypeAlias

    from dlcore._common.protocols import OwnerOfLayers
    from dlcore._common.typing import Approximation, Array

    Parametrization: TypeAlias = Literal["standard", "ntk"]

__all__ = [
    "ELU",
    "GELU",
    "SELU",
    "BatchNorm1d",
    "Dropout",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LogSigmoid",
    "Mish",
    "RMSNorm",
    "ReLU",
    "SiLU",
    "Sigmoid",
    "Softplus",
    "Tanh",
]


class Layer:
    """Base class of the layers, and of those of your own.

    A layer of your own is a subclass with two methods: ``forward(x)``, which returns the outputs of
    rows x, and ``backward(dy, x)``, which returns the gradient of x, given that of the outputs. It
    is a part of models, fits and files like any other. In training the two are called once a batch,
    on the thread of the fit, in inference ``forward`` for some rows at a time, on any thread: no
    row may depend on another there. It takes arrays of shape (N, in_features) and the model's dtype,
    which are its own to change, and costs a step some 10 microseconds more than what it computes.

    With parameters, which `initial_parameters` draws and ``parameters`` holds, ``backward`` returns
    the gradient of x and a dict of those of the parameters.

    A subclass of another layer of this package may have other defaults or more attributes, but
    cannot compute anything else, since compiled code computes it.

    Attributes
    ----------
    in_features, out_features : int or None
        Width of x, of shape (N, in_features), and of y, of shape (N, out_features); both None for a
        layer with as many features out as in, whatever their number.

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> class Snake(dl.Layer):
    ...     "x + sin(a x)^2 / a, with an a of each feature that is learned."
    ...
    ...     def __init__(self, features):
    ...         self.in_features = self.out_features = features
    ...
    ...     def initial_parameters(self, rng):
    ...         return {"a": np.ones(self.in_features)}
    ...
    ...     def forward(self, x):
    ...         a = self.parameters["a"]
    ...         return x + np.sin(a * x) ** 2 / a
    ...
    ...     def backward(self, dy, x):
    ...         a = self.parameters["a"]
    ...         of_a = dy * (x * np.sin(2 * a * x) / a - (np.sin(a * x) / a) ** 2)
    ...         return dy * (1 + np.sin(2 * a * x)), {"a": of_a.sum(0)}
    >>> model = dl.Sequential(dl.Linear(4, 8), Snake(8), dl.Linear(8, 1), seed=0)
    >>> list(model.state_dict())
    ['0.weight', '0.bias', '1.a', '2.weight', '2.bias']
    """

    in_features: int | None = None
    out_features: int | None = None
    _is_bound: bool = False
    _arrays: dict[str, Array] | None = None  # in the model
    _own_shapes: dict[str, tuple[int, ...]] | None = None
    # Options that are shown whatever they are.
    _shown: ClassVar[tuple[str, ...]] = ()

    def initial_parameters(self, rng: np.random.Generator) -> dict[str, Array]:  # noqa: ARG002
        """Return the initial values of the parameters of a layer of your own, by their names.

        Parameters
        ----------
        rng : numpy.random.Generator
            Draws them, by the model's seed. The method is called once before, for their shapes.
        """
        return {}

    @property
    def parameters(self) -> dict[str, Array]:
        """The parameters by their names: the arrays of the model, which may be changed in place."""
        if self._arrays is None:
            return {}
        return {name: self._arrays[name] for name in self._parameter_shapes}

    @property
    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of each parameter that the layer has in a `Sequential`."""
        return self._parameter_shapes

    @property
    def _leaves(self) -> dict[str, Layer]:
        """The layers that it is made of, by the beginning of the names of their parameters."""
        return {"": self}

    @property
    def _native_names(self) -> tuple[tuple[str, str], ...]:
        """What is the weight, and what the bias, of each native layer that it is described by."""
        if not self._draws_own:
            return (("weight", "bias"),)
        names = [*self._parameter_shapes, ""]
        return tuple((names[i], names[i + 1]) for i in range(0, max(1, len(names) - 1), 2))

    def _members_after(self, before: int) -> int:
        """Return of how many members rows are after this layer, given that before it."""
        return before

    @property
    def _options(self) -> dict[str, Any]:
        """The arguments of the constructor, of the class of this package, that make such a layer."""
        return {}

    @property
    def _parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of each parameter, in the order of ``state_dict``."""
        if not self._draws_own:
            return {}
        if self._own_shapes is None:
            drawn = self._initial_parameters(np.random.default_rng(0))
            self._own_shapes = {name: value.shape for name, value in drawn.items()}
        return self._own_shapes

    @property
    def _draws_own(self) -> bool:
        """Whether it is a layer of the user's own, with parameters."""
        return type(self).initial_parameters is not Layer.initial_parameters

    def _parameter_of(self, name: str, flat: Array) -> Array:
        """Return the parameter whose elements are in a 1-D array: a view."""
        return flat.reshape(self._parameter_shapes[name])

    def _initial_parameters(self, rng: np.random.Generator) -> dict[str, Array]:
        """Draw the initial value of each parameter, in float64."""
        drawn: Any = self.initial_parameters(rng)
        name = f"{type(self).__name__}.initial_parameters"
        if not isinstance(drawn, dict) or not all(map(_is_plain_name, drawn)):
            raise TypeError(
                f"{name} must return a dict of arrays by their names, not {drawn!r:.50}"
            )
        return {own: np.asarray(value, np.float64) for own, value in drawn.items()}

    @property
    def _buffer_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of each array that is kept with the parameters but not trained."""
        return {}

    def _initial_buffers(self) -> dict[str, Array]:
        """Return the initial value of each of them."""
        return {}

    def _bind(
        self,
        arrays: dict[str, Array],
        model: Callable[[], OwnerOfLayers | None],  # noqa: ARG002
    ) -> None:
        """Take the arrays that hold the parameters and buffers from now on, and their model."""
        if arrays:
            self._arrays, self._is_bound = arrays, True

    # A copied or unpickled layer is bound anew by its model, whose arrays hold the values.
    def __getstate__(self) -> dict[str, Any]:
        of_the_model = ("_arrays", "_is_bound", "_own_shapes")
        return {name: value for name, value in vars(self).items() if name not in of_the_model}

    @property
    def _settings(self) -> object:
        """The options that may be set while the layer is part of a model."""
        return None

    def _tell_model(self) -> None:
        """Have the model describe its layers anew, of which an option was set."""

    def __repr__(self) -> str:
        kind = known_class(self) or type(self)
        parameters = inspect.signature(kind).parameters
        options = [
            f"{value}" if parameters[name].default is inspect.Parameter.empty else f"{name}={value}"
            for name, value in self._options.items()
            if name in self._shown or value != parameters[name].default
        ]
        return f"{kind.__name__}({', '.join(options)})"


class BoundLayer(Layer):
    """Base class of the layers with arrays of their own.

    They come into being when a `Sequential` takes the layer, and live in that model; a layer cannot
    be part of two.
    """

    _model: Callable[[], OwnerOfLayers | None] | None = None

    def _bind(self, arrays: dict[str, Array], model: Callable[[], OwnerOfLayers | None]) -> None:
        """Take the arrays that hold the parameters and buffers from now on, and their model."""
        self._arrays, self._model = arrays, model
        self._is_bound = True

    def _tell_model(self) -> None:
        """Have the model describe its layers anew, of which an option was set."""
        model = None if self._model is None else self._model()
        if model is not None:
            model._describe_anew()

    def _fill_in(self, name: str, values: Any) -> None:
        """Give a parameter or a buffer other values."""
        if self._bound.get(name) is None:
            raise AttributeError(f"{self!r} has no {name}")
        model = None if self._model is None else self._model()
        if model is not None:
            model._make_writeable()
        fill_in(self._bound[name], f"{type(self).__name__}.{name}", values)

    @property
    def _bound(self) -> dict[str, Array]:
        if self._arrays is None:
            raise RuntimeError(f"{self!r} has no parameters before it is part of a Sequential")
        return self._arrays

    # A copied or unpickled layer is bound anew by its model, whose arrays hold the values.
    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_arrays": None, "_model": None, "_is_bound": False}


def _check_eps(name: str, value: Any) -> float:
    number = check_real(name, value)
    if not number >= 0:
        raise ValueError(f"{name} must be at least 0, not {value}")
    return number


def _check_eps_or_none(name: str, value: Any) -> float | None:
    return None if value is None else _check_eps(name, value)


def _check_max_norm(name: str, value: Any) -> float | None:
    return None if value is None else check_positive(name, value)


def _check_momentum(name: str, value: Any) -> float | None:
    return None if value is None else check_in(name, value, "[0, 1]", otherwise=" or None")


def _check_parametrization(name: str, value: Any) -> str:
    return check_choice(name, value, ("standard", "ntk"))


class Linear(BoundLayer):
    """``y = x @ weight.T + bias``, PyTorch's layer of that name.

    Parameters
    ----------
    in_features, out_features : int
        Width of x, of shape (N, in_features), and of y, of shape (N, out_features).
    bias : bool
        Whether to add a bias.
    max_norm : float, optional
        Largest 2-norm of the weights of an output; after an update in training those of a greater
        one are scaled down to it (Srivastava et al.: Dropout, JMLR 2014).
    parametrization : {"standard", "ntk"}
        What the weights are: those of the product, or sqrt(in_features) times them, with
        ``y = x @ weight.T / sqrt(in_features) + bias``, the neural-tangent-kernel parametrization
        (Jacot, Gabriel, Hongler, NeurIPS 2018). Its weights are of size 1 whatever the width, and so
        is the step that suits them.

    Notes
    -----
    The parameters come into being when a `Sequential` takes the layer, and live in that model;
    a layer cannot be part of two. Their initial values are uniform in ±1/sqrt(in_features), which
    is what PyTorch draws: Kaiming's uniform initialization (He et al., 2015) with a = sqrt(5). With
    "ntk" the weights are standard normal, and the biases 0.
    """

    in_features: Fixed[int] = Fixed(check_positive_int)
    out_features: Fixed[int] = Fixed(check_positive_int)
    has_bias: Fixed[bool] = Fixed(check_flag)
    max_norm: Option[float | None] = Option(_check_max_norm)
    parametrization: Fixed[str] = Fixed(_check_parametrization)
    # Whether the weights of an input lie side by side, which sparse rows read.
    _is_input_major: bool = False

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        max_norm: float | None = None,
        parametrization: Parametrization = "standard",
    ) -> None:
        self.in_features = in_features
        self.out_features = out_features
        self.has_bias = check_flag(f"{type(self).__name__}: bias", bias)
        self.parametrization = parametrization
        self.max_norm = max_norm

    weight: ArrayAttribute[Array] = ArrayAttribute(
        "Weights of shape (out_features, in_features); ``layer.weight = w`` changes them in place."
    )
    bias: ArrayAttribute[Array | None] = ArrayAttribute(
        "Bias of shape (out_features,), or None; ``layer.bias = b`` changes it in place.",
        or_none=True,
    )

    @property
    def _options(self) -> dict[str, Any]:
        return {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "bias": self.has_bias,
            "max_norm": self.max_norm,
            # Models in files of earlier versions have no other.
            **({"parametrization": "ntk"} if self._is_ntk else {}),
        }

    @property
    def _settings(self) -> object:
        return self.max_norm

    @property
    def _is_ntk(self) -> bool:
        return self.parametrization == "ntk"

    @property
    def _factor(self) -> float:
        """What the product of x and the weights is multiplied by."""
        return 1 / math.sqrt(self.in_features) if self._is_ntk else 1.0

    @property
    def _native_names(self) -> tuple[tuple[str, str], ...]:
        return (("weight", ""), ("", "bias")) if self._is_ntk else super()._native_names

    @property
    def _parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of ``weight`` and, if there is one, of ``bias``."""
        shapes: dict[str, tuple[int, ...]] = {"weight": (self.out_features, self.in_features)}
        if self.has_bias:
            shapes["bias"] = (self.out_features,)
        return shapes

    def _parameter_of(self, name: str, flat: Array) -> Array:
        """Return the parameter whose elements are in a 1-D array: a view."""
        if name == "weight" and self._is_input_major:
            return flat.reshape(self.in_features, self.out_features).T
        return super()._parameter_of(name, flat)

    def _initial_parameters(self, rng: np.random.Generator) -> dict[str, Array]:
        """Draw weight, then bias, from the uniform distribution in ±1/sqrt(in_features)."""
        if self._is_ntk:
            zeros = {name: np.zeros(shape) for name, shape in self._parameter_shapes.items()}
            return zeros | {"weight": rng.normal(size=self._parameter_shapes["weight"])}
        bound = 1 / math.sqrt(self.in_features)
        shapes = self._parameter_shapes.items()
        return {name: rng.uniform(-bound, bound, shape) for name, shape in shapes}


class Normalization(BoundLayer):
    """Base class of the layers that normalize and then scale and shift each feature."""

    in_features: Fixed[int] = Fixed(check_positive_int)
    out_features: Fixed[int] = Fixed(check_positive_int)
    has_weight: Fixed[bool] = Fixed(check_flag)
    has_bias: Fixed[bool] = Fixed(check_flag)
    eps: Option[Any] = Option(_check_eps)

    def __init__(self, features: int, eps: float | None, has_weight: bool, has_bias: bool) -> None:
        check_positive_int(f"{type(self).__name__}: the number of features", features)
        self.in_features = self.out_features = features
        self.eps = eps
        self.has_weight, self.has_bias = has_weight, has_bias

    weight: ArrayAttribute[Array | None] = ArrayAttribute(
        "Scale of each feature, or None; ``layer.weight = w`` changes it in place.", or_none=True
    )
    bias: ArrayAttribute[Array | None] = ArrayAttribute(
        "Shift of each feature, or None; ``layer.bias = b`` changes it in place.", or_none=True
    )

    @property
    def _settings(self) -> object:
        return self.eps

    @property
    def _parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of ``weight`` and ``bias``, as far as there are any."""
        assert self.in_features is not None
        names = {"weight": self.has_weight, "bias": self.has_bias}
        return {name: (self.in_features,) for name, there in names.items() if there}

    def _initial_parameters(self, rng: np.random.Generator) -> dict[str, Array]:  # noqa: ARG002
        """Scales are 1, shifts 0."""
        values = {"weight": np.ones, "bias": np.zeros}
        return {name: values[name](shape) for name, shape in self._parameter_shapes.items()}


class BatchNorm1d(Normalization):
    """Normalize each feature by its mean and variance over the batch, PyTorch's layer of that name.

    Outside of training the running mean and variance take their place. They are not parameters, but
    part of ``model.state_dict()``, under PyTorch's names.

    Parameters
    ----------
    num_features : int
        Width of x and of y.
    eps : float
        Added to the variance.
    momentum : float or None
        Weight of a batch in the running mean and variance; None for the mean over all batches.
    affine : bool
        Whether to scale and shift.

    Notes
    -----
    A batch of one row has no variance: its outputs are the shifts, and the running mean and variance
    stay as they are. (PyTorch raises an error.)

    References
    ----------
    Ioffe, Szegedy: Batch normalization: accelerating deep network training by reducing internal
    covariate shift, ICML 2015.
    """

    momentum: Option[float | None] = Option(_check_momentum)
    _shown = ("eps", "momentum")

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
    ) -> None:
        affine = check_flag(f"{type(self).__name__}: affine", affine)
        super().__init__(num_features, eps, affine, affine)
        self.momentum = momentum

    running_mean: ArrayAttribute[Array] = ArrayAttribute("Running mean of each feature.")
    running_var: ArrayAttribute[Array] = ArrayAttribute(
        "Running variance of each feature, unbiased."
    )
    num_batches_tracked: ArrayAttribute[Array] = ArrayAttribute(
        "Batches that went into them, an int64 of shape ()."
    )

    @property
    def _settings(self) -> object:
        return self.eps, self.momentum

    @property
    def _buffer_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of the running mean and variance and of the number of batches."""
        assert self.in_features is not None
        features = (self.in_features,)
        return {"running_mean": features, "running_var": features, "num_batches_tracked": ()}

    def _initial_buffers(self) -> dict[str, Array]:
        """Mean 0, variance 1, no batches."""
        assert self.in_features is not None
        return {
            "running_mean": np.zeros(self.in_features),
            "running_var": np.ones(self.in_features),
            "num_batches_tracked": np.array(0, np.int64),
        }

    @property
    def _options(self) -> dict[str, Any]:
        return {
            "num_features": self.in_features,
            "eps": self.eps,
            "momentum": self.momentum,
            "affine": self.has_weight,
        }


class LayerNorm(Normalization):
    """Normalize each row by the mean and variance of its features, PyTorch's layer of that name.

    Parameters
    ----------
    normalized_shape : int
        Width of x and of y.
    eps : float
        Added to the variance.
    elementwise_affine : bool
        Whether to scale and shift.
    bias : bool
        Whether to shift, if to scale.

    References
    ----------
    Ba, Kiros, Hinton: Layer normalization, 2016.
    """

    eps: float
    _shown = ("eps",)

    def __init__(
        self,
        normalized_shape: int,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
    ) -> None:
        affine = check_flag("LayerNorm: elementwise_affine", elementwise_affine)
        super().__init__(
            normalized_shape, eps, affine, affine and check_flag("LayerNorm: bias", bias)
        )

    @property
    def _options(self) -> dict[str, Any]:
        return {
            "normalized_shape": self.in_features,
            "eps": self.eps,
            "elementwise_affine": self.has_weight,
            "bias": self.has_bias or not self.has_weight,
        }


class RMSNorm(Normalization):
    """Divide each row by the root of the mean square of its features, PyTorch's layer of that name.

    Parameters
    ----------
    normalized_shape : int
        Width of x and of y.
    eps : float, optional
        Added to the mean square; by default the machine epsilon of the model's dtype.
    elementwise_affine : bool
        Whether to scale.

    References
    ----------
    Zhang, Sennrich: Root mean square layer normalization, NeurIPS 2019.
    """

    eps: Option[float | None] = Option(_check_eps_or_none)
    _shown = ("eps",)

    def __init__(
        self, normalized_shape: int, eps: float | None = None, elementwise_affine: bool = True
    ) -> None:
        affine = check_flag("RMSNorm: elementwise_affine", elementwise_affine)
        super().__init__(normalized_shape, eps, affine, False)

    @property
    def _options(self) -> dict[str, Any]:
        return {
            "normalized_shape": self.in_features,
            "eps": self.eps,
            "elementwise_affine": self.has_weight,
        }


class Dropout(Layer):
    """In training, set each element to 0 with probability p and divide the others by 1 - p.

    Which ones are is drawn by the trainer's seed.

    Parameters
    ----------
    p : float
        In [0, 1]; it may be set, from the next epoch of a fit on.

    References
    ----------
    Srivastava et al.: Dropout: a simple way to prevent neural networks from overfitting, JMLR 2014.
    """

    p: Option[float] = Option(lambda name, value: check_in(name, value, "[0, 1]"))
    _shown = ("p",)

    def __init__(self, p: float = 0.5) -> None:
        self.p = p

    @property
    def _settings(self) -> object:
        return self.p

    @property
    def _options(self) -> dict[str, Any]:
        return {"p": self.p}


@dataclass(frozen=True)
class Activation(Layer):
    """Base class of the activations: the fields of a subclass are the options of its kernel."""

    kernel: ClassVar[str]
    # The factor that keeps the variance of what goes through, as `calculate_gain` gives it.
    gain: ClassVar[float] = 1.0

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments of the kernel and of its backward."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def _options(self) -> dict[str, Any]:
        return self.options


@dataclass(frozen=True)
class ReLU(Activation):
    """`dlcore.relu` as a layer."""

    kernel = "relu"
    gain = math.sqrt(2)


@dataclass(frozen=True)
class LeakyReLU(Activation):
    """`dlcore.leaky_relu` as a layer."""

    kernel = "leaky_relu"
    negative_slope: float = 0.01

    def __post_init__(self) -> None:
        vars(self).update(
            negative_slope=check_finite("LeakyReLU: negative_slope", self.negative_slope)
        )


@dataclass(frozen=True)
class ELU(Activation):
    """`dlcore.elu` as a layer."""

    kernel = "elu"
    gain = math.sqrt(2)
    alpha: float = 1.0

    def __post_init__(self) -> None:
        vars(self).update(alpha=check_finite("ELU: alpha", self.alpha))


@dataclass(frozen=True)
class GELU(Activation):
    """`dlcore.gelu` as a layer; ``approximate`` is "none" or "tanh"."""

    kernel = "gelu"
    gain = math.sqrt(2)
    approximate: Approximation = "none"

    def __post_init__(self) -> None:
        check_choice("GELU: approximate", self.approximate, ("none", "tanh"))


@dataclass(frozen=True)
class SiLU(Activation):
    """`dlcore.silu` as a layer."""

    kernel = "silu"
    gain = math.sqrt(2)


@dataclass(frozen=True)
class Mish(Activation):
    """`dlcore.mish` as a layer."""

    kernel = "mish"
    gain = math.sqrt(2)


@dataclass(frozen=True)
class SELU(Activation):
    """`dlcore.selu` as a layer."""

    kernel = "selu"
    gain = 3 / 4


@dataclass(frozen=True)
class Sigmoid(Activation):
    """`dlcore.sigmoid` as a layer."""

    kernel = "sigmoid"


@dataclass(frozen=True)
class Tanh(Activation):
    """`dlcore.tanh` as a layer."""

    kernel = "tanh"
    gain = 5 / 3


@dataclass(frozen=True)
class Softplus(Activation):
    """`dlcore.softplus` as a layer."""

    kernel = "softplus"
    beta: float = 1.0
    threshold: float = 20.0

    def __post_init__(self) -> None:
        vars(self).update(
            beta=check_positive("Softplus: beta", self.beta),
            threshold=check_number("Softplus: threshold", self.threshold, "[-inf, inf]"),
        )


@dataclass(frozen=True)
class LogSigmoid(Activation):
    """`dlcore.log_sigmoid` as a layer."""

    kernel = "log_sigmoid"


# The activations by the name of their kernel: what enumerates them is made of this table.
ACTIVATIONS: dict[str, type[Activation]] = {
    activation.kernel: activation
    for activation in (
        ReLU,
        LeakyReLU,
        ELU,
        GELU,
        SiLU,
        Mish,
        SELU,
        Sigmoid,
        Tanh,
        Softplus,
        LogSigmoid,
    )
}


# All layers by the name of their class.
LAYERS: dict[str, type[Layer]] = {
    kind.__name__: kind
    for kind in (Linear, BatchNorm1d, LayerNorm, RMSNorm, Dropout, *ACTIVATIONS.values())
}


def known_class(layer: object) -> type[Layer] | None:
    """Return the class of this package that a layer is of, itself or by inheritance."""
    return next((kind for kind in type(layer).__mro__ if LAYERS.get(kind.__name__) is kind), None)


def is_own(layer: Layer) -> bool:
    """Whether a layer is computed in Python, by methods of the user's own."""
    methods = (getattr(layer, name, None) for name in ("forward", "backward"))
    return known_class(layer) is None and all(map(callable, methods))


def check_computable(layer: Layer) -> None:
    """Raise a TypeError for a layer that cannot be computed."""
    name = type(layer).__name__
    if is_own(layer):
        widths = (layer.in_features, layer.out_features)
        if widths != (None, None):
            for own, value in zip(("in_features", "out_features"), widths, strict=True):
                check_positive_int(f"{name}.{own}", value)
        return
    if known_class(layer) is None or getattr(layer, "kernel", "relu") not in ACTIVATIONS:
        raise TypeError(
            f"Sequential: {name} is no layer that it can compute; it takes {', '.join(LAYERS)}, "
            f"subclasses of them, and layers of your own with the methods forward(x) and "
            f"backward(dy, x)"
        )
    methods = [method for method in ("forward", "backward", "__call__") if hasattr(layer, method)]
    if layer._draws_own:
        methods.append("initial_parameters")
    for method in methods:
        raise TypeError(
            f"Sequential: {name}.{method} would never be called: compiled code computes a "
            f"{known_class(layer).__name__}; a layer of your own is a subclass of dlcore.Layer alone"  # type: ignore[union-attr]
        )


def _is_plain_name(name: object) -> bool:
    return isinstance(name, str) and name.isidentifier()
