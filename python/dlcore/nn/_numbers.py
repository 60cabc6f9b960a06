"""Layers of embeddings of numbers: each feature by itself becomes several."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._common.checks import check_flag, check_positive, check_positive_int
from dlcore.nn._layers import LAYERS, BoundLayer
from dlcore.nn._options import ArrayAttribute, Fixed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dlcore._common.typing import Array

__all__ = ["LinearEmbeddings", "NLinear", "Periodic"]


class OfFeatures(BoundLayer):
    """Base class of the layers over columns of which each feature has as many, side by side."""

    n_features: Fixed[int] = Fixed(check_positive_int)
    in_features: Fixed[int] = Fixed(check_positive_int)
    out_features: Fixed[int] = Fixed(check_positive_int)

    def __init__(self, n_features: int, d_in: int, d_out: int) -> None:
        self.n_features = n_features
        self.in_features, self.out_features = self.n_features * d_in, self.n_features * d_out

    weight: ArrayAttribute[Array] = ArrayAttribute(
        "The weights of each feature; ``layer.weight = w`` changes them in place."
    )
    bias: ArrayAttribute[Array | None] = ArrayAttribute(
        "The biases of each feature, or None; ``layer.bias = b`` changes them in place.",
        or_none=True,
    )


class NLinear(OfFeatures):
    """A linear layer of each feature: ``y[:, f] = x[:, f] @ weight[f] + bias[f]``.

    x has the d_in columns of a feature side by side, feature after feature, and y its d_out ones.

    Parameters
    ----------
    n_features : int
    d_in, d_out : int
        Columns of each feature.
    bias : bool
        Whether to add a bias.
    shared : bool
        Whether all features have the same weights, those of `Linear`, of shape (d_out, d_in).

    Notes
    -----
    ``weight`` has shape (n_features, d_in, d_out) and ``bias`` (n_features, d_out), as in the package
    rtdl_num_embeddings; both begin uniform in ±1/sqrt(d_in).

    References
    ----------
    Gorishniy, Rubachev, Babenko: On embeddings for numerical features in tabular deep learning, NeurIPS
    2022.

    Examples
    --------
    >>> import numpy as np, dlcore as dl
    >>> model = dl.Sequential(dl.NLinear(2, 3, 1, bias=False), seed=0)
    >>> model[0].weight = np.array([[[1], [0], [0]], [[0], [0], [2]]], np.float32)
    >>> model(np.array([[1, 2, 3, 4, 5, 6]], np.float32)).tolist()
    [[1.0, 12.0]]
    """

    d_in: Fixed[int] = Fixed(check_positive_int)
    d_out: Fixed[int] = Fixed(check_positive_int)
    has_bias: Fixed[bool] = Fixed(check_flag)
    is_shared: Fixed[bool] = Fixed(check_flag)

    def __init__(
        self, n_features: int, d_in: int, d_out: int, bias: bool = True, *, shared: bool = False
    ) -> None:
        self.d_in, self.d_out = d_in, d_out
        self.has_bias = check_flag(f"{type(self).__name__}: bias", bias)
        self.is_shared = check_flag(f"{type(self).__name__}: shared", shared)
        super().__init__(n_features, self.d_in, self.d_out)

    @property
    def _options(self) -> dict[str, Any]:
        return {
            "n_features": self.n_features,
            "d_in": self.d_in,
            "d_out": self.d_out,
            "bias": self.has_bias,
            "shared": self.is_shared,
        }

    @property
    def _parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        n, d_in, d_out = self.n_features, self.d_in, self.d_out
        shapes: dict[str, tuple[int, ...]] = {
            "weight": (d_out, d_in) if self.is_shared else (n, d_in, d_out)
        }
        if self.has_bias:
            shapes["bias"] = (d_out,) if self.is_shared else (n, d_out)
        return shapes

    def _initial_parameters(self, rng: np.random.Generator) -> dict[str, Array]:
        bound = 1 / math.sqrt(self.d_in)
        return {n: rng.uniform(-bound, bound, shape) for n, shape in self._parameter_shapes.items()}


class LinearEmbeddings(OfFeatures):
    """A linear function of each feature: ``y[:, f] = x[:, f] * weight[f] + bias[f]``.

    Parameters
    ----------
    n_features : int
        Columns of x.
    d_embedding : int
        Columns of y of each feature, side by side, feature after feature.

    Notes
    -----
    ``weight`` and ``bias`` have shape (n_features, d_embedding), as in the package
    rtdl_num_embeddings, and begin uniform in ±1/sqrt(d_embedding). With a `ReLU` behind it is what the
    package calls LinearReLUEmbeddings.

    References
    ----------
    Gorishniy, Rubachev, Babenko: On embeddings for numerical features in tabular deep learning, NeurIPS
    2022.

    Examples
    --------
    >>> import dlcore as dl
    >>> model = dl.Sequential(dl.LinearEmbeddings(5, 8), dl.ReLU(), dl.Linear(40, 3), seed=0)
    >>> [*model.named_parameters()]
    ['0.weight', '0.bias', '2.weight', '2.bias']
    """

    d_embedding: Fixed[int] = Fixed(check_positive_int)

    def __init__(self, n_features: int, d_embedding: int) -> None:
        self.d_embedding = d_embedding
        super().__init__(n_features, 1, self.d_embedding)

    @property
    def _options(self) -> dict[str, Any]:
        return {"n_features": self.n_features, "d_embedding": self.d_embedding}

    @property
    def _parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        shape = (self.n_features, self.d_embedding)
        return {"weight": shape, "bias": shape}

    def _initial_parameters(self, rng: np.random.Generator) -> dict[str, Array]:
        bound = 1 / math.sqrt(self.d_embedding)
        return {n: rng.uniform(-bound, bound, shape) for n, shape in self._parameter_shapes.items()}


class MissingEmbeddings(LinearEmbeddings):
    """What is added where a feature is missing: ``y[:, f] = x[:, f] * weight[f]``, 0 in the beginning."""

    @property
    def _parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"weight": (self.n_features, self.d_embedding)}

    def _initial_parameters(self, rng: np.random.Generator) -> dict[str, Array]:  # noqa: ARG002
        return {"weight": np.zeros((self.n_features, self.d_embedding))}


class Periodic(OfFeatures):
    """Waves of each feature: ``cos(2 pi w x)`` and ``sin(2 pi w x)``, whose frequencies w are learned.

    Parameters
    ----------
    n_features : int
        Columns of x.
    n_frequencies : int
        Frequencies of each feature, k.
    frequency_init_scale : float
        Standard deviation of the frequencies in the beginning: the most important option of periodic
        embeddings.
    bias : bool
        Instead of cosines and sines cosines alone, each with a phase: ``cos(2 pi w x + b)``.

    Notes
    -----
    Of each feature y has k cosines and then, without biases, k sines. ``weight`` and ``bias`` have shape
    (n_features, k). Frequencies are drawn from the normal distribution, without biases within three
    standard deviations, as in rtdl_num_embeddings; biases are uniform in ±pi, as in pytabkit.

    The number of turns w x loses its whole ones without a rounding, so that the result is as good for
    large x as for small ones: it is within 2 ULP of the cosine and the sine of the exact product in both
    dtypes, with a bias within 1e-7 or 2e-16. (With a product that is rounded, as in other packages, an
    error of 2 pi w x ULP remains.)

    References
    ----------
    Gorishniy, Rubachev, Babenko: On embeddings for numerical features in tabular deep learning, NeurIPS
    2022, section 3.3. With biases: Holzmüller, Grinsztajn, Steinwart: Better by default, NeurIPS 2024.

    Examples
    --------
    >>> import numpy as np, dlcore as dl
    >>> model = dl.Sequential(dl.Periodic(1, 1), seed=0)
    >>> model[0].weight = np.array([[0.25]], np.float32)
    >>> (model(np.array([[0], [1], [4001]], np.float32)) + 0).tolist()  # no -0.0
    [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]
    """

    n_frequencies: Fixed[int] = Fixed(check_positive_int)
    frequency_init_scale: Fixed[float] = Fixed(check_positive)
    has_bias: Fixed[bool] = Fixed(check_flag)

    def __init__(
        self,
        n_features: int,
        n_frequencies: int = 48,
        frequency_init_scale: float = 0.01,
        *,
        bias: bool = False,
    ) -> None:
        self.n_frequencies = n_frequencies
        self.has_bias = check_flag(f"{type(self).__name__}: bias", bias)
        self.frequency_init_scale = frequency_init_scale
        super().__init__(n_features, 1, self.n_frequencies * (1 if bias else 2))

    @property
    def _options(self) -> dict[str, Any]:
        return {
            "n_features": self.n_features,
            "n_frequencies": self.n_frequencies,
            "frequency_init_scale": self.frequency_init_scale,
            "bias": self.has_bias,
        }

    @property
    def _parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        shape = (self.n_features, self.n_frequencies)
        return dict.fromkeys(("weight", "bias") if self.has_bias else ("weight",), shape)

    def _initial_parameters(self, rng: np.random.Generator) -> dict[str, Array]:
        shape = self._parameter_shapes["weight"]
        weight = rng.normal(size=shape)
        if self.has_bias:
            bias = rng.uniform(-math.pi, math.pi, shape)
            return {"weight": self.frequency_init_scale * weight, "bias": bias}
        while (beyond := np.abs(weight) > 3).any():
            weight[beyond] = rng.normal(size=int(beyond.sum()))
        return {"weight": self.frequency_init_scale * weight}


class PiecewiseLinear(OfFeatures):
    """How far each feature is in its bins: what `PiecewiseLinearEncoding` gives, each feature as wide.

    The share of the last bin is the last column of a feature; what lies between it and those of the
    other bins, where other features have more, is 0.
    """

    def __init__(self, bins: Sequence[Array]) -> None:
        self._bins = bins
        self.d_out = max(1, *(len(own) - 1 for own in bins))
        super().__init__(len(bins), 1, self.d_out)

    def arrays(self) -> tuple[Array, Array, Array, Array]:
        """Return the lower edge, the inverse width and the bounds of each bin, in the model's dtype."""
        shape = (self.n_features, self.d_out)
        lower, low, high = np.zeros((3, *shape))
        scale = np.ones(shape)
        for f, edges in enumerate(self._bins):
            count = len(edges) - 1
            if count < 1:
                continue
            own = [*range(count - 1), self.d_out - 1]
            lower[f, own] = edges[:-1]
            scale[f, own] = 1 / np.diff(edges)
            high[f, own], low[f, own[0]] = 1, -np.inf
            high[f, -1] = np.inf
        model = None if self._model is None else self._model()
        assert model is not None
        lower, scale, low, high = (a.astype(model.dtype) for a in (lower, scale, low, high))
        return lower, scale, low, high


class Missing(BoundLayer):
    """NaN as 0 and all else as it is, or 1 for NaN and 0 for all else."""

    def __init__(self, features: int, *, indicates: bool) -> None:
        self.in_features = self.out_features = features
        self.indicates = indicates


LAYERS |= {kind.__name__: kind for kind in (LinearEmbeddings, NLinear, Periodic)}
