"""Initial weights by name: of a model in place, or as arrays.

The functions that return arrays follow ``torch.nn.init`` in formulas and conventions: weights have
the shape (out, in), and ``fan_in`` and ``fan_out`` are the numbers of inputs and outputs.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from dlcore._common.arrays import as_matrix
from dlcore._common.checks import (
    check_choice,
    check_instance,
    check_name,
    check_number,
    check_positive,
    generator_of,
    is_int,
    is_several,
)
from dlcore.nn._data_driven import Hinges, of_data
from dlcore.nn._layers import ACTIVATIONS, Activation, LeakyReLU, Linear
from dlcore.nn._parallel import Branches
from dlcore.nn._sequential import Sequential

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from dlcore._common.typing import Array
    from dlcore.nn._layers import Layer

    Seed: TypeAlias = int | np.random.Generator | None

__all__ = [
    "calculate_gain",
    "initialize",
    "kaiming_normal",
    "kaiming_uniform",
    "lecun_normal",
    "orthogonal",
    "xavier_normal",
    "xavier_uniform",
]


def initialize(
    model: Sequential,
    method: str,
    *,
    gain: float | None = None,
    nonlinearity: str | Activation | None = None,
    mode: str = "fan_in",
    bias: str | None = None,
    seed: Seed = None,
    x: Any = None,
) -> None:
    """Set the weights of every `Linear` layer of a model in place, and their biases, mostly to 0.

    Parameters that are frozen stay as they are, and so do those of other layers.

    Parameters
    ----------
    model : Sequential
        The model.
    method : str
        "kaiming_uniform", "kaiming_normal", "xavier_uniform", "xavier_normal", "orthogonal" or
        "lecun_normal": the function of this module of that name. "lsuv": layer-sequential unit
        variance, see the notes. "unit_variance": the same for each output by itself, from normal
        weights. "default": what a new `Sequential` has, weights and biases uniform in
        ±1/sqrt(fan_in), as PyTorch draws them. "zeros": 0.
    gain : float, optional
        Factor of the Kaiming, Xavier and orthogonal weights; by default that of ``nonlinearity``.
        1 gives PyTorch's default for Xavier and orthogonal weights.
    nonlinearity : str or activation layer, optional
        What `calculate_gain` takes; by default the activation that follows the `Linear` layer in
        the model before the next one, "linear" if there is none.
    mode : {"fan_in", "fan_out"}
        For the Kaiming weights.
    bias : {"zeros", "normal", "he+5"}, optional
        How the biases begin: at 0, which is what all methods but "default" do if it is not given;
        standard normal; or "he+5", see the notes.
    seed : int or Generator, optional
        Draws the weights. A layer gets the same ones whichever others are frozen.
    x : ndarray of shape (N, in_features)
        Rows such as the model will be trained on, of its dtype; for "lsuv", "unit_variance" and
        "he+5".

    Raises
    ------
    TypeError, ValueError
        An argument is not as described or has no meaning for the method, or what comes out of a
        layer is not finite or, for "lsuv", without variance. The model is as it was before.

    Notes
    -----
    "lsuv" draws orthogonal weights, then goes through the layers from first to last and divides the
    weights of each by the standard deviation of its outputs ``h @ weight.T``, where h is what x has
    become up to this layer; over all rows and features that variance then is 1 up to rounding.
    (The paper repeats the division up to a tolerance; as the outputs are linear in the weights, one
    division suffices.) The layers in between compute as in inference.

    "unit_variance" draws standard normal weights and divides those of each output by the standard
    deviation of this output; where all rows give the same, but for rounding, they stay as they are
    drawn. "he+5" takes
    for each output five rows at random, and as its bias the negative of a random mean of the outputs
    for these, weighted by a uniform point of the simplex: so the units of a ReLU have their kinks
    where there are data.

    Of layers with the parametrization "ntk" the methods set what x is multiplied by: their weights
    are sqrt(in_features) times as large.

    Values are computed in float64 and rounded to the model's dtype.

    References
    ----------
    Mishkin, Matas: All you need is a good init, ICLR 2016 (layer-sequential unit variance).
    Steinwart: A sober look at neural network initializations, arXiv:1903.11482, 2019 (he+5).
    Holzmüller, Grinsztajn, Steinwart: Better by default, NeurIPS 2024 (both for RealMLP).

    Examples
    --------
    >>> import dlcore as dl
    >>> model = dl.Sequential(dl.Linear(784, 256), dl.ReLU(), dl.Linear(256, 10))
    >>> dl.initialize(model, "kaiming_normal", seed=0)
    """
    check_instance("initialize: model", model, Sequential)
    _check(method, gain, nonlinearity, mode, bias, x)
    if x is not None:
        x = as_matrix(x, "x", model.dtype, model.in_features)
    rng = generator_of("initialize: seed", seed)
    values: dict[str, Array] = {}
    hinges: dict[str, Hinges] = {}
    for start, layer, following in _linear_layers(dict(enumerate(model.layers))):
        options: dict[str, Any] = {"mode": mode} if method in _WITH_MODE else {}
        if method in _WITH_GAIN:
            after = _activation_in(following) if nonlinearity is None else nonlinearity
            options["gain"] = calculate_gain(after) if gain is None else gain
        drawn = _draw(layer, method, rng, options)
        if "bias" in drawn and bias == "normal":
            drawn["bias"] = rng.normal(size=drawn["bias"].shape)
        elif "bias" in drawn and bias == "he+5":
            hinges[f"{start}.bias"] = Hinges(layer.out_features, len(x), rng)
        elif "bias" in drawn and bias == "zeros":
            drawn["bias"] = np.zeros_like(drawn["bias"])
        values |= {f"{start}.{name}": value for name, value in drawn.items()}
    values = {name: value for name, value in values.items() if name not in model.frozen}
    if x is not None:
        values |= of_data(model, values, x, method, hinges)
    own = model.named_parameters()
    for name, value in values.items():
        own[name][...] = value


def calculate_gain(nonlinearity: str | Activation, negative_slope: float = 0.01) -> float:
    """Return the factor that keeps the variance through an activation, as PyTorch's function does.

    Parameters
    ----------
    nonlinearity : str or activation layer
        "linear", "sigmoid", "tanh", "relu", "leaky_relu" or "selu", with PyTorch's values; the name
        of another activation of dlcore, of which those like ReLU count as "relu", "softplus" as
        "linear"; or a layer, such as ``LeakyReLU(0.2)``.
    negative_slope : float
        Slope of "leaky_relu"; a `LeakyReLU` layer brings its own.

    Returns
    -------
    float
        1 for linear and sigmoid, 5/3 for tanh, sqrt(2) for ReLU, sqrt(2 / (1 + slope^2)) for
        leaky ReLU, 3/4 for SELU.

    References
    ----------
    He, Zhang, Ren, Sun: Delving deep into rectifiers, ICCV 2015, for (leaky) ReLU; the others as in
    ``torch.nn.init.calculate_gain``.
    """
    if isinstance(nonlinearity, LeakyReLU):
        return calculate_gain("leaky_relu", nonlinearity.negative_slope)
    if isinstance(nonlinearity, Activation):
        return nonlinearity.gain
    gains = {
        "linear": 1.0,
        **{name: activation.gain for name, activation in ACTIVATIONS.items()},
        "leaky_relu": math.sqrt(2 / (1 + negative_slope**2)),
    }
    return gains[
        check_name("nonlinearity", nonlinearity, gains, otherwise=" or an activation layer")
    ]


def kaiming_uniform(
    shape: Sequence[int], rng: Seed = None, *, gain: float = math.sqrt(2), mode: str = "fan_in"
) -> Array:
    """Draw weights uniform in ±gain * sqrt(3 / fan), whose standard deviation is gain / sqrt(fan).

    Parameters
    ----------
    shape : (int, int)
        Numbers of outputs and inputs.
    rng : Generator or int, optional
        What to draw from, or a seed.
    gain : float
        Factor, as from `calculate_gain`.
    mode : {"fan_in", "fan_out"}
        Which of the two numbers is the fan: inputs keep the variance of the activations on the way
        forward, outputs that of the gradients on the way back.

    Returns
    -------
    ndarray of float64, shape (out, in)

    References
    ----------
    He, Zhang, Ren, Sun: Delving deep into rectifiers: surpassing human-level performance on
    ImageNet classification, ICCV 2015.
    """
    bound = _checked_gain(gain) * math.sqrt(3 / _fan(shape, mode))
    return generator_of("rng", rng).uniform(-bound, bound, tuple(shape))


def kaiming_normal(
    shape: Sequence[int], rng: Seed = None, *, gain: float = math.sqrt(2), mode: str = "fan_in"
) -> Array:
    """Draw weights from a normal distribution of standard deviation gain / sqrt(fan).

    Parameters
    ----------
    shape : (int, int)
        Numbers of outputs and inputs.
    rng, gain, mode
        As in `kaiming_uniform`.

    Returns
    -------
    ndarray of float64, shape (out, in)

    References
    ----------
    He, Zhang, Ren, Sun, as for `kaiming_uniform`.
    """
    return generator_of("rng", rng).normal(
        0, _checked_gain(gain) / math.sqrt(_fan(shape, mode)), tuple(shape)
    )


def xavier_uniform(shape: Sequence[int], rng: Seed = None, *, gain: float = 1.0) -> Array:
    """Draw weights uniform in ±gain * sqrt(6 / (fan_in + fan_out)).

    Their standard deviation is gain * sqrt(2 / (fan_in + fan_out)), a compromise between the two
    modes of Kaiming's initialization.

    Parameters
    ----------
    shape : (int, int)
        Numbers of outputs and inputs.
    rng : Generator or int, optional
        What to draw from, or a seed.
    gain : float
        Factor, as from `calculate_gain`.

    Returns
    -------
    ndarray of float64, shape (out, in)

    References
    ----------
    Glorot, Bengio: Understanding the difficulty of training deep feedforward neural networks,
    AISTATS 2010.
    """
    bound = _checked_gain(gain) * math.sqrt(6 / sum(_checked(shape)))
    return generator_of("rng", rng).uniform(-bound, bound, tuple(shape))


def xavier_normal(shape: Sequence[int], rng: Seed = None, *, gain: float = 1.0) -> Array:
    """Draw weights from a normal distribution of variance gain^2 * 2 / (fan_in + fan_out).

    Parameters
    ----------
    shape : (int, int)
        Numbers of outputs and inputs.
    rng, gain
        As in `xavier_uniform`.

    Returns
    -------
    ndarray of float64, shape (out, in)

    References
    ----------
    Glorot, Bengio, as for `xavier_uniform`.
    """
    std = _checked_gain(gain) * math.sqrt(2 / sum(_checked(shape)))
    return generator_of("rng", rng).normal(0, std, tuple(shape))


def lecun_normal(shape: Sequence[int], rng: Seed = None) -> Array:
    """Draw weights from a normal distribution of variance 1 / fan_in.

    It is not truncated, as that of some libraries is.

    Parameters
    ----------
    shape : (int, int)
        Numbers of outputs and inputs.
    rng : Generator or int, optional
        What to draw from, or a seed.

    Returns
    -------
    ndarray of float64, shape (out, in)

    References
    ----------
    LeCun, Bottou, Orr, Müller: Efficient BackProp, 1998.
    """
    return kaiming_normal(shape, rng, gain=1)


def orthogonal(shape: Sequence[int], rng: Seed = None, *, gain: float = 1.0) -> Array:
    """Draw a random orthogonal matrix, times gain.

    The rows, or the columns if there are fewer of them, are orthogonal to each other and of length
    gain. All such matrices are equally likely: the signs of R's diagonal make the QR decomposition
    of a normal matrix unique.

    Parameters
    ----------
    shape : (int, int)
        Numbers of outputs and inputs.
    rng : Generator or int, optional
        What to draw from, or a seed.
    gain : float
        Factor, as from `calculate_gain`.

    Returns
    -------
    ndarray of float64, shape (out, in)

    References
    ----------
    Saxe, McClelland, Ganguli: Exact solutions to the nonlinear dynamics of learning in deep linear
    neural networks, ICLR 2014.
    Mezzadri: How to generate random matrices from the classical compact groups, Notices of the AMS
    2007 (the signs).
    """
    out, fan_in = _checked(shape)
    gain = _checked_gain(gain)  # before anything is drawn
    normal = generator_of("rng", rng).normal(size=(max(out, fan_in), min(out, fan_in)))
    q, r = np.linalg.qr(normal)
    q *= gain * np.copysign(1.0, np.diag(r))
    return q if out >= fan_in else np.ascontiguousarray(q.T)


_FUNCTIONS: dict[str, Callable[..., Array]] = {
    "kaiming_uniform": kaiming_uniform,
    "kaiming_normal": kaiming_normal,
    "xavier_uniform": xavier_uniform,
    "xavier_normal": xavier_normal,
    "orthogonal": orthogonal,
    "lecun_normal": lecun_normal,
    "lsuv": orthogonal,
    "unit_variance": lecun_normal,
}
_METHODS = (*_FUNCTIONS, "default", "zeros")
_WITH_GAIN = tuple(_FUNCTIONS)[:5]
_WITH_MODE = tuple(_FUNCTIONS)[:2]


def _draw(
    layer: Linear, method: str, rng: np.random.Generator, options: dict[str, Any]
) -> dict[str, Array]:
    """Draw the parameters of a layer."""
    if method == "default":
        return layer._initial_parameters(rng)
    values = {name: np.zeros(shape) for name, shape in layer._parameter_shapes.items()}
    if method != "zeros":
        product = _FUNCTIONS[method](values["weight"].shape, rng, **options)
        values["weight"] = product / layer._factor
    return values


def _linear_layers(
    layers: Mapping[Any, Layer], then: Sequence[Layer] = ()
) -> Iterator[tuple[str, Linear, Sequence[Layer]]]:
    """Give each `Linear` layer, those of branches as well, with its name and the layers after it."""
    for i, (name, layer) in enumerate(layers.items()):
        following = (*[*layers.values()][i + 1 :], *then)
        if isinstance(layer, Linear):
            yield str(name), layer, following
        elif isinstance(layer, Branches):
            for _, _, own in layer._branches(layer.in_features or 0):
                named = {f"{name}.{start}": child for start, child in own.items()}
                yield from _linear_layers(named, following)


def _activation_in(layers: Sequence[Layer]) -> str | Activation:
    """Return the activation before the next `Linear` layer."""
    for layer in layers:
        if isinstance(layer, Linear):
            break
        if isinstance(layer, Activation):
            return layer
    return "linear"


def _check(
    method: str,
    gain: float | None,
    nonlinearity: str | Activation | None,
    mode: str,
    bias: str | None,
    x: Any,
) -> None:
    """Raise ValueError for an unknown method or an argument that it does not use."""
    check_name("method", method, _METHODS)
    if bias is not None:
        check_choice("initialize: bias", bias, ("zeros", "normal", "he+5"))
    check_choice("initialize: mode", mode, ("fan_in", "fan_out"))
    if nonlinearity is not None:
        calculate_gain(nonlinearity)
    takers_of_x = _METHODS if bias == "he+5" else ("lsuv", "unit_variance")
    for name, given, takers in (
        ("gain", gain is not None, _WITH_GAIN),
        ("nonlinearity", nonlinearity is not None, _WITH_GAIN),
        ("mode", mode != "fan_in", _WITH_MODE),
        ("x", x is not None, takers_of_x),
    ):
        if given and method not in takers:
            raise ValueError(f"initialize: {name} has no meaning for {method!r}")
    if gain is not None and nonlinearity is not None:
        raise ValueError("initialize: give gain or nonlinearity, not both")
    if gain is not None:
        check_positive("initialize: gain", gain)
    if method in takers_of_x and x is None:
        needs = "he+5" if bias == "he+5" else method
        raise ValueError(
            f"initialize: {needs!r} needs x, rows such as the model will be trained on"
        )


def _checked(shape: Sequence[int]) -> tuple[int, int]:
    """Return the numbers of outputs and inputs."""
    if not is_several(shape) or len(shape) != 2 or not all(is_int(n) and n > 0 for n in shape):
        raise ValueError(f"shape must be two positive integers, (out, in), not {shape!r}")
    return int(shape[0]), int(shape[1])


def _checked_gain(gain: Any) -> float:
    return check_number("gain", gain, "(0, 1e300]")  # a range of NumPy's is finite


def _fan(shape: Sequence[int], mode: str) -> int:
    out, fan_in = _checked(shape)
    check_choice("mode", mode, ("fan_in", "fan_out"))
    return fan_in if mode == "fan_in" else out
