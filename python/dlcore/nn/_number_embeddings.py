"""Embeddings of numbers, made of the layers of each feature."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dlcore._common.checks import check_choice, check_flag, check_positive_int
from dlcore.nn._layers import LAYERS, Layer, ReLU
from dlcore.nn._numbers import (
    LinearEmbeddings,
    Missing,
    MissingEmbeddings,
    NLinear,
    Periodic,
    PiecewiseLinear,
)
from dlcore.nn._parallel import Branches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dlcore._common.typing import Array

__all__ = ["PBLDEmbeddings", "PeriodicEmbeddings", "PiecewiseLinearEmbeddings"]


class NumberEmbeddings(Branches):
    """Base class of the embeddings: a sum of branches over all features, each a row of layers.

    What is ``missing`` is 0 to all of them, and has one more branch.
    """

    def __init__(
        self, n_features: int, d_embedding: int, missing: bool, *rows: dict[str, Layer]
    ) -> None:
        if missing:
            fills = ({f"fill{i}": Missing(n_features, indicates=False)} for i in range(len(rows)))
            indicator = Missing(n_features, indicates=True)
            rows = (
                *(fill | row for fill, row in zip(fills, rows, strict=True)),
                {"indicator": indicator, "missing": MissingEmbeddings(n_features, d_embedding)},
            )
        self.n_features, self.d_embedding, self.missing = n_features, d_embedding, missing
        self.in_features, self.out_features = n_features, n_features * d_embedding
        self._rows = rows
        self._is_sum = len(rows) > 1
        self._children = {name: layer for row in rows for name, layer in row.items()}
        self._values = {}

    def _branches(self, width: int) -> list[tuple[int, int, dict[str, Layer]]]:
        return [(0, width, row) for row in self._rows]

    @property
    def _given_branches(self) -> list[Layer | list[Layer]]:
        return []  # its options make all of its layers

    def __repr__(self) -> str:
        return Layer.__repr__(self)


class PeriodicEmbeddings(NumberEmbeddings):
    """Embeddings of waves: `Periodic`, a linear layer of each feature and, unless left out, `ReLU`.

    Parameters
    ----------
    n_features : int
        Columns of x.
    d_embedding : int
        Columns of y of each feature, side by side, feature after feature.
    n_frequencies : int
        Frequencies of each feature.
    frequency_init_scale : float
        Standard deviation of the frequencies in the beginning, the most important option: values from
        0.01 to 10 are worth a try.
    activation : bool
        Whether a `ReLU` ends it. With it this is called PLR, without PL.
    lite : bool
        Whether all features share one linear layer; with ``activation`` alone.
    missing : bool
        Whether NaN is a value of its own: the embedding of 0, and a vector of each feature added that
        is learned, ``missing.weight`` of shape (n_features, d_embedding), 0 in the beginning. Otherwise
        NaN gives NaN.

    Raises
    ------
    ValueError
        A number is not positive, or ``lite`` goes without the activation.

    Notes
    -----
    Parameters have the names and shapes of the class of this name in the package rtdl_num_embeddings,
    whose ``state_dict`` fits: "periodic.weight", "linear.weight" and "linear.bias". Its outputs of
    shape (N, n_features, d_embedding) are ``y.reshape(N, n_features, d_embedding)``.

    References
    ----------
    Gorishniy, Rubachev, Babenko: On embeddings for numerical features in tabular deep learning, NeurIPS
    2022. Lite: Gorishniy et al.: TabR, ICLR 2024.

    Examples
    --------
    >>> import dlcore as dl
    >>> embeddings = dl.PeriodicEmbeddings(5, 24, lite=True)
    >>> model = dl.Sequential(embeddings, dl.Linear(5 * 24, 3), seed=0)
    >>> {name: p.shape for name, p in model.named_parameters().items() if name[0] == "0"}
    {'0.periodic.weight': (5, 48), '0.linear.weight': (24, 96), '0.linear.bias': (24,)}
    """

    def __init__(
        self,
        n_features: int,
        d_embedding: int = 24,
        *,
        n_frequencies: int = 48,
        frequency_init_scale: float = 0.01,
        activation: bool = True,
        lite: bool,
        missing: bool = False,
    ) -> None:
        name = type(self).__name__
        self.lite = check_flag(f"{name}: lite", lite)
        self.activation = check_flag(f"{name}: activation", activation)
        if self.lite and not self.activation:
            raise ValueError(f"{name}: lite=True is for activation=True alone")
        d_embedding = check_positive_int(f"{name}: d_embedding", d_embedding)
        periodic = Periodic(n_features, n_frequencies, frequency_init_scale)
        layers: dict[str, Layer] = {
            "periodic": periodic,
            "linear": NLinear(
                periodic.n_features, 2 * periodic.n_frequencies, d_embedding, shared=self.lite
            ),
        }
        layers |= {"activation": ReLU()} if self.activation else {}
        self._periodic = periodic
        missing = check_flag(f"{name}: missing", missing)
        super().__init__(periodic.n_features, d_embedding, missing, layers)

    @property
    def _options(self) -> dict[str, Any]:
        return {
            "n_features": self.n_features,
            "d_embedding": self.d_embedding,
            "n_frequencies": self._periodic.n_frequencies,
            "frequency_init_scale": self._periodic.frequency_init_scale,
            "activation": self.activation,
            "lite": self.lite,
            "missing": self.missing,
        }


class PBLDEmbeddings(Branches):
    """RealMLP's embeddings: periodic with bias, linear, and the number itself (densenet).

    Of each feature they are ``cos(2 pi w x + b) @ W + c`` of d_embedding - 1 columns, side by side,
    feature after feature; then come the columns of x.

    Parameters
    ----------
    n_features : int
        Columns of x.
    d_embedding : int
        Columns of y for each feature, at least 2.
    n_frequencies : int
        Frequencies of each feature.
    frequency_init_scale : float
        Standard deviation of the frequencies in the beginning.
    activation : bool
        Whether a `ReLU` follows the linear layer (PBLRD).
    missing : bool
        Whether NaN is a value of its own: 0, and a vector of each feature added to its embedding that
        is learned, "embedding.missing.weight" of shape (n_features, d_embedding - 1), 0 in the
        beginning. Otherwise NaN gives NaN.

    Raises
    ------
    ValueError
        A number is not positive, or ``d_embedding`` is less than 2.

    Notes
    -----
    The parameters are, with the names that they have in pytabkit's PBLDEmbeddings:
    "embedding.periodic.weight" and "embedding.periodic.bias" of shape (n_features, n_frequencies), its
    weight_1 and bias_1 less the axis of length 1; "embedding.linear.weight" of shape (n_features,
    n_frequencies, d_embedding - 1), its weight_2; "embedding.linear.bias" of shape (n_features,
    d_embedding - 1), its bias_2 less the axis.

    References
    ----------
    Holzmüller, Grinsztajn, Steinwart: Better by default: strong pre-tuned MLPs and boosted trees on
    tabular data, NeurIPS 2024.

    Examples
    --------
    >>> import dlcore as dl
    >>> dl.Sequential(dl.PBLDEmbeddings(5), dl.Linear(5 * 4, 3), seed=0).in_features
    5
    """

    _is_sum = False

    def __init__(
        self,
        n_features: int,
        d_embedding: int = 4,
        *,
        n_frequencies: int = 16,
        frequency_init_scale: float = 0.1,
        activation: bool = False,
        missing: bool = False,
    ) -> None:
        name = type(self).__name__
        if check_positive_int(f"{name}: d_embedding", d_embedding) < 2:
            raise ValueError(f"{name}: d_embedding must be at least 2, not {d_embedding}")
        self.activation = check_flag(f"{name}: activation", activation)
        self.missing = check_flag(f"{name}: missing", missing)
        self._periodic = Periodic(n_features, n_frequencies, frequency_init_scale, bias=True)
        self.n_features = self._periodic.n_features
        self.d_embedding = int(d_embedding)
        linear = NLinear(self.n_features, self._periodic.n_frequencies, self.d_embedding - 1)
        layers: dict[str, Layer] = {"periodic": self._periodic, "linear": linear}
        layers |= {"activation": ReLU()} if self.activation else {}
        own = NumberEmbeddings(self.n_features, self.d_embedding - 1, self.missing, layers)
        fill = {"fill": Missing(self.n_features, indicates=False)} if self.missing else {}
        self.in_features = self.n_features
        self.out_features = self.n_features * self.d_embedding
        self._raw: dict[str, Layer] = {**fill}
        self._children = {"embedding": own, **fill}
        self._values = {}

    def _branches(self, width: int) -> list[tuple[int, int, dict[str, Layer]]]:
        return [(0, width, {"embedding": self._children["embedding"]}), (0, width, self._raw)]

    @property
    def _given_branches(self) -> list[Layer | list[Layer]]:
        return []

    @property
    def _options(self) -> dict[str, Any]:
        return {
            "n_features": self.n_features,
            "d_embedding": self.d_embedding,
            "n_frequencies": self._periodic.n_frequencies,
            "frequency_init_scale": self._periodic.frequency_init_scale,
            "activation": self.activation,
            "missing": self.missing,
        }

    def __repr__(self) -> str:
        return Layer.__repr__(self)


class PiecewiseLinearEmbeddings(NumberEmbeddings):
    """Embeddings of bins: the piecewise-linear encoding, and a linear layer of each feature.

    Parameters
    ----------
    bins : sequence of array_like
        Increasing edges of each column of x, by `compute_bins`. A column with a single edge has an
        encoding of 0.
    d_embedding : int
        Columns of y of each feature, side by side, feature after feature.
    activation : bool
        Whether a `ReLU` follows the linear layer.
    version : {"A", "B"}
        "B" adds `LinearEmbeddings`, and its weights for the encoding begin at 0, so that an embedding
        is linear in the beginning; TabM takes it, without the activation. "A" is that of the first
        paper.
    missing : bool
        Whether NaN is a value of its own: what 0 is, and a vector of each feature added that is
        learned, ``missing.weight`` of shape (n_features, d_embedding), 0 in the beginning. Otherwise
        NaN gives NaN.

    Raises
    ------
    ValueError
        Edges are not finite and increasing numbers, or an option is not as described.

    Notes
    -----
    Parameters have the names and shapes of the class of this name in the package rtdl_num_embeddings:
    "linear.weight", and "linear.bias" (A) or "linear0.weight" and "linear0.bias" (B). What its
    ``state_dict`` has under "impl" are its bins, and no parameters.

    References
    ----------
    Gorishniy, Rubachev, Babenko: On embeddings for numerical features in tabular deep learning, NeurIPS
    2022. Version B: Gorishniy, Kotelnikov, Babenko: TabM, ICLR 2025.

    Examples
    --------
    >>> import numpy as np, dlcore as dl
    >>> x = np.random.default_rng(0).normal(size=(100, 5)).astype(np.float32)
    >>> bins = dl.compute_bins(x, 8)
    >>> embeddings = dl.PiecewiseLinearEmbeddings(bins, 16, activation=False, version="B")
    >>> dl.Sequential(embeddings, dl.Linear(5 * 16, 1), seed=0)(x).shape
    (100, 1)
    """

    def __init__(
        self,
        bins: Sequence[Any],
        d_embedding: int,
        *,
        activation: bool,
        version: Literal["A", "B"] = "B",
        missing: bool = False,
    ) -> None:
        name = type(self).__name__
        self.bins = _checked_bins(name, bins)
        d_embedding = check_positive_int(f"{name}: d_embedding", d_embedding)
        self.activation = check_flag(f"{name}: activation", activation)
        self.version = check_choice(f"{name}: version", version, ("A", "B"))
        encoding, is_b = PiecewiseLinear(self.bins), self.version == "B"
        n = encoding.n_features
        layers: dict[str, Layer] = {
            "impl": encoding,
            "linear": NLinear(n, encoding.d_out, d_embedding, bias=not is_b),
        }
        layers |= {"activation": ReLU()} if self.activation else {}
        rows = (layers,)
        if is_b:
            rows = ({"linear0": LinearEmbeddings(n, d_embedding)}, layers)  # type: ignore[assignment]
        super().__init__(n, d_embedding, check_flag(f"{name}: missing", missing), *rows)

    @property
    def _options(self) -> dict[str, Any]:
        return {
            "bins": [own.tolist() for own in self.bins],
            "d_embedding": self.d_embedding,
            "activation": self.activation,
            "version": self.version,
            "missing": self.missing,
        }

    def _initial_parameters(self, rng: np.random.Generator) -> dict[str, Array]:
        values = super()._initial_parameters(rng)
        if self.version == "B":
            values["linear.weight"] = np.zeros_like(values["linear.weight"])
        return values

    def __repr__(self) -> str:
        counts = [max(0, len(own) - 1) for own in self.bins]
        options = f"activation={self.activation}, version={self.version!r}"
        options += ", missing=True" if self.missing else ""
        return (
            f"PiecewiseLinearEmbeddings(<{sum(counts)} bins of {self.n_features} features>, "
            f"{self.d_embedding}, {options})"
        )


def _checked_bins(name: str, bins: Sequence[Any]) -> list[Array]:
    if not len(bins):
        raise ValueError(f"{name}: bins must be the edges of each of one or more columns")
    checked = []
    for i, own in enumerate(bins):
        edges = np.array(own, np.float64)
        if edges.ndim != 1 or not len(edges) or not np.isfinite(edges).all():
            raise ValueError(
                f"{name}: bins[{i}] must be one or more finite numbers, not {own!r:.50}"
            )
        if not (np.diff(edges) > 0).all():
            raise ValueError(f"{name}: bins[{i}] must increase, not {own!r:.50}")
        checked.append(edges)
    return checked


LAYERS |= {
    kind.__name__: kind for kind in (PBLDEmbeddings, PeriodicEmbeddings, PiecewiseLinearEmbeddings)
}
