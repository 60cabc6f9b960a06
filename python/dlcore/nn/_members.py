"""Layers of several networks that are trained at once, the members of an ensemble."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dlcore._common.checks import check_choice, check_flag, check_positive_int
from dlcore.nn._chains import leaves_of
from dlcore.nn._layers import LAYERS, BoundLayer, Layer
from dlcore.nn._options import ArrayAttribute, Fixed
from dlcore.nn._parallel import Branches

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    from dlcore._common.typing import Array

    ScalingInit: TypeAlias = Literal["ones", "normal", "random-signs"]

__all__ = ["EnsembleMean", "LinearBatchEnsemble", "LinearEnsemble", "ScaleEnsemble"]

_SCALINGS = ("ones", "normal", "random-signs")


class MemberLayer(BoundLayer):
    """Base class of the layers with parameters of each member.

    The first of them in a network gives each row to all ``k`` members; from then on the members are
    apart, and layers without members, such as activations, `Dropout` and `Linear`, compute each of
    them, with parameters that they share.
    """

    in_features: Fixed[int] = Fixed(check_positive_int)
    out_features: Fixed[int] = Fixed(check_positive_int)
    k: Fixed[int] = Fixed(check_positive_int)
    # What each member has of its own: arrays of shape (k, ...).
    _of_members: tuple[str, ...] = ("weight", "bias")

    def _members_after(self, before: int) -> int:
        if before not in (1, self.k):
            raise ValueError(f"{self!r} is of {self.k} members, but comes after {before}")
        return self.k


class LinearBatchEnsemble(MemberLayer):
    """Linear layers of k members that share their weights: ``y = ((x * r[m]) @ weight.T) * s[m] + bias[m]``.

    Parameters
    ----------
    in_features, out_features : int
        Width of the rows of each member.
    k : int
        Number of members.
    bias : bool
        Whether each member adds a bias of its own.
    scaling_init : {"ones", "normal", "random-signs"}
        How ``r`` begins: at 1, or drawn from the normal distribution, or from {-1, 1}, as in the
        first layer, where it is what makes members differ.
    chunks : sequence of int, optional
        Numbers of neighboring columns that begin with the same ``r``, such as those of one feature's
        embedding.

    Notes
    -----
    ``weight`` has shape (out_features, in_features) and begins uniform in ±1/sqrt(in_features),
    ``r`` has shape (k, in_features), ``s`` and ``bias`` have shape (k, out_features) and begin at 1
    and at one draw that members share. Names and shapes are those of the package tabm.

    References
    ----------
    Wen, Tran, Ba: BatchEnsemble: an alternative approach to efficient ensemble and lifelong learning,
    ICLR 2020.
    Gorishniy, Kotelnikov, Babenko: TabM: advancing tabular deep learning with parameter-efficient
    ensembling, ICLR 2025.

    Examples
    --------
    >>> import dlcore as dl
    >>> model = dl.Sequential(
    ...     dl.LinearBatchEnsemble(20, 64, k=8, scaling_init="random-signs"),
    ...     dl.ReLU(),
    ...     dl.Dropout(0.1),
    ...     dl.LinearBatchEnsemble(64, 64, k=8),
    ...     dl.ReLU(),
    ...     dl.LinearEnsemble(64, 3, k=8),
    ...     dl.EnsembleMean("softmax"),
    ...     seed=0,
    ... )
    >>> model.out_features
    3
    """

    _of_members = ("r", "s", "bias")
    weight: ArrayAttribute[Array] = ArrayAttribute("The weights that members share.")
    bias: ArrayAttribute[Array] = ArrayAttribute("The bias of each member.")
    r: ArrayAttribute[Array] = ArrayAttribute("The factors of each member's inputs.")
    s: ArrayAttribute[Array] = ArrayAttribute("The factors of each member's outputs.")
    has_bias: Fixed[bool] = Fixed(check_flag)
    scaling_init: Fixed[str] = Fixed(lambda name, value: check_choice(name, value, _SCALINGS))

    def __init__(
        self,
        in_features: int,
        out_features: int,
        k: int,
        bias: bool = True,
        *,
        scaling_init: ScalingInit = "ones",
        chunks: Sequence[int] | None = None,
    ) -> None:
        self.in_features, self.out_features, self.k = in_features, out_features, k
        self.has_bias = check_flag(f"{type(self).__name__}: bias", bias)
        self.scaling_init = scaling_init
        self.chunks = _checked_chunks(self, chunks)

    @property
    def _options(self) -> dict[str, Any]:
        return {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "k": self.k,
            "bias": self.has_bias,
            "scaling_init": self.scaling_init,
            "chunks": self.chunks,
        }

    @property
    def _native_names(self) -> tuple[tuple[str, str], ...]:
        return (("r", ""), ("weight", ""), ("s", "bias"))

    @property
    def _parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {
            "weight": (self.out_features, self.in_features),
            "r": (self.k, self.in_features),
            "s": (self.k, self.out_features),
        }
        return shapes | ({"bias": (self.k, self.out_features)} if self.has_bias else {})

    def _initial_parameters(self, rng: np.random.Generator) -> dict[str, Array]:
        bound = 1 / math.sqrt(self.in_features)
        shapes = self._parameter_shapes
        values = {
            "weight": rng.uniform(-bound, bound, shapes["weight"]),
            "r": _scaling(rng, self.k, self.in_features, self.scaling_init, self.chunks),
            "s": np.ones(shapes["s"]),
        }
        if self.has_bias:
            drawn = rng.uniform(-bound, bound, self.out_features)
            values["bias"] = np.tile(drawn, (self.k, 1))
        return values


class LinearEnsemble(MemberLayer):
    """Linear layers of k members, each with weights of its own: ``y = x @ weight[m].T + bias[m]``.

    Parameters
    ----------
    in_features, out_features : int
        Width of the rows of each member.
    k : int
        Number of members.
    bias : bool
        Whether each member adds a bias.

    Notes
    -----
    ``weight`` has shape (k, out_features, in_features), that of k `Linear` layers, and ``bias`` (k,
    out_features); both begin uniform in ±1/sqrt(in_features). The package tabm has the weights as
    (k, in_features, out_features): ``np.swapaxes(weight, 1, 2)`` is the one of the other.
    """

    weight: ArrayAttribute[Array] = ArrayAttribute("The weights of each member.")
    bias: ArrayAttribute[Array] = ArrayAttribute("The bias of each member.")
    has_bias: Fixed[bool] = Fixed(check_flag)

    def __init__(self, in_features: int, out_features: int, k: int, bias: bool = True) -> None:
        self.in_features, self.out_features, self.k = in_features, out_features, k
        self.has_bias = check_flag(f"{type(self).__name__}: bias", bias)

    @property
    def _options(self) -> dict[str, Any]:
        return {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "k": self.k,
            "bias": self.has_bias,
        }

    @property
    def _parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {
            "weight": (self.k, self.out_features, self.in_features)
        }
        return shapes | ({"bias": (self.k, self.out_features)} if self.has_bias else {})

    def _initial_parameters(self, rng: np.random.Generator) -> dict[str, Array]:
        bound = 1 / math.sqrt(self.in_features)
        return {n: rng.uniform(-bound, bound, shape) for n, shape in self._parameter_shapes.items()}


class ScaleEnsemble(MemberLayer):
    """A factor for each feature of each of k members: ``y = x * weight[m]``.

    Before a network that members share otherwise it makes a "mini" ensemble of it, whose members
    differ in this layer and in their last one.

    Parameters
    ----------
    k : int
        Number of members.
    num_features : int
        Width of the rows.
    init : {"ones", "normal", "random-signs"}
        How ``weight`` of shape (k, num_features) begins.
    chunks : sequence of int, optional
        Numbers of neighboring columns that begin with the same factor.

    References
    ----------
    Gorishniy, Kotelnikov, Babenko: TabM, ICLR 2025 (TabM-mini).
    """

    weight: ArrayAttribute[Array] = ArrayAttribute("The factors of each member.")
    init: Fixed[str] = Fixed(lambda name, value: check_choice(name, value, _SCALINGS))

    def __init__(
        self,
        k: int,
        num_features: int,
        *,
        init: ScalingInit = "random-signs",
        chunks: Sequence[int] | None = None,
    ) -> None:
        self.k, self.in_features, self.out_features = k, num_features, num_features
        self.init = init
        self.chunks = _checked_chunks(self, chunks)

    @property
    def _options(self) -> dict[str, Any]:
        return {
            "k": self.k,
            "num_features": self.in_features,
            "init": self.init,
            "chunks": self.chunks,
        }

    _shown = ("init",)

    @property
    def _parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"weight": (self.k, self.in_features)}

    def _initial_parameters(self, rng: np.random.Generator) -> dict[str, Array]:
        return {"weight": _scaling(rng, self.k, self.in_features, self.init, self.chunks)}


class EnsembleMean(Layer):
    """The end of the members: what they predict together.

    In training each member has a loss of its own, and the loss of a row is their mean. Outside of it
    the network has one output for a row, so that all that takes outputs takes these. Layers after it
    are for inference alone: a network is trained that ends with it.

    Parameters
    ----------
    of : {"outputs", "softmax", "sigmoid"}
        What is averaged: the outputs, for regression; or the probabilities of classes, or of each
        output by itself, whose logits the outputs are. The result then is the logarithm, or the
        logit, of the mean probability: ``softmax(model(x))`` is the mean of the members' softmax.
    """

    def __init__(self, of: Literal["outputs", "softmax", "sigmoid"] = "outputs") -> None:
        self.of = check_choice("EnsembleMean: of", of, ("outputs", "softmax", "sigmoid"))

    _shown = ("of",)

    @property
    def _options(self) -> dict[str, Any]:
        return {"of": self.of}

    def _members_after(self, before: int) -> int:
        if before == 1:
            raise ValueError("EnsembleMean needs layers of several members before it")
        return 1


def check_means_end(layers: Sequence[Layer]) -> None:
    """Raise a ValueError where an `EnsembleMean` is not the end of all layers."""
    leaves = list(leaves_of(layers).values())
    if layers and isinstance(layers[-1], Branches):
        leaves.append(layers[-1])
    if any(isinstance(leaf, EnsembleMean) for leaf in leaves[:-1]):
        raise ValueError(
            "an EnsembleMean can be trained as the last layer of a model, not before others or in a "
            "branch: each member has a loss of its own"
        )


def _checked_chunks(layer: Any, chunks: Sequence[int] | None) -> list[int] | None:
    if chunks is None:
        return None
    if not np.iterable(chunks):
        raise ValueError(f"{type(layer).__name__}: chunks must be several integers, not {chunks!r}")
    sizes = [check_positive_int(f"{type(layer).__name__}: chunks", size) for size in chunks]
    if sum(sizes) != layer.in_features:
        raise ValueError(
            f"{type(layer).__name__}: chunks must add up to {layer.in_features}, not {sum(sizes)}"
        )
    return sizes


def _scaling(
    rng: np.random.Generator, k: int, width: int, init: str, chunks: list[int] | None
) -> Array:
    if init == "ones":
        return np.ones((k, width))
    shape = (k, width if chunks is None else len(chunks))
    drawn = rng.normal(size=shape) if init == "normal" else rng.choice([-1.0, 1.0], shape)
    return drawn if chunks is None else np.repeat(drawn, chunks, axis=1)


LAYERS |= {
    kind.__name__: kind
    for kind in (EnsembleMean, LinearBatchEnsemble, LinearEnsemble, ScaleEnsemble)
}
