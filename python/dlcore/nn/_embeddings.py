"""Layers of categories: columns of x whose values are codes, 0, 1, ..., each a row of a table."""

from __future__ import annotations

import math
import operator
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from dlcore._common.checks import (
    check_choice,
    check_flag,
    check_positive_int,
    check_several,
    is_several,
)
from dlcore.nn._layers import LAYERS, BoundLayer, Layer
from dlcore.nn._options import ArrayAttribute, Fixed
from dlcore.nn._parallel import Branches

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    import numpy as np

    from dlcore._common.typing import Array

    Missing: TypeAlias = Literal["error", "category", "zeros"]

__all__ = ["CategoricalEmbeddings", "Embedding", "OneHotLinear"]


def _check_missing(name: str, value: Any) -> str:
    return check_choice(name, value, ("error", "category", "zeros"))


class CategoryLayer(BoundLayer):
    """Base class of the layers that read tables by the codes in columns of x."""

    in_features: Fixed[int] = Fixed(check_positive_int)
    out_features: Fixed[int] = Fixed(check_positive_int)
    missing: Fixed[str] = Fixed(_check_missing)

    @property
    def _sizes(self) -> tuple[int, ...]:
        """Numbers of categories of each column, without the missing one."""
        raise NotImplementedError

    @property
    def _rows(self) -> int:
        """Rows of the tables of all columns."""
        return sum(self._sizes) + (self.missing == "category") * len(self._sizes)

    weight: ArrayAttribute[Array] = ArrayAttribute(
        "The table; ``layer.weight = w`` changes it in place."
    )


class Embedding(CategoryLayer):
    """A row of a table for each category, PyTorch's layer of that name: ``y = weight[code]``.

    It takes one column of x, whose values are the codes 0 to ``num_embeddings - 1`` as floating
    numbers, and can only be where x comes in: as the first layer, or the first of a branch of
    `Parallel` over a column. `CategoricalEmbeddings` takes several columns, beside columns of
    numbers.

    Parameters
    ----------
    num_embeddings : int
        Number of categories.
    embedding_dim : int
        Width of y.
    missing : {"error", "category", "zeros"}
        What NaN is: an error; a category of its own, the last row of ``weight``, which then has
        ``num_embeddings + 1`` rows; or a row of zeros, which nothing trains.

    Notes
    -----
    ``weight`` of shape (num_embeddings, embedding_dim) begins normal with standard deviation 1, as
    in PyTorch. x itself has a gradient of 0.

    Any other value, such as one beyond the last category, raises an error that names row and column:
    a code is an index, and what stands for unknown categories is one of them, that of a category of
    its own.

    float32 holds all codes below 16,777,216.

    References
    ----------
    Guo, Berkhahn: Entity embeddings of categorical variables, 2016.

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> model = dl.Sequential(dl.Embedding(4, 2), seed=0)
    >>> x = np.array([[3.0], [0.0]], np.float32)
    >>> bool((model(x) == model[0].weight[[3, 0]]).all())
    True
    """

    num_embeddings: Fixed[int] = Fixed(check_positive_int)
    embedding_dim: Fixed[int] = Fixed(check_positive_int)

    def __init__(
        self, num_embeddings: int, embedding_dim: int, *, missing: Missing = "error"
    ) -> None:
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.in_features, self.out_features = 1, embedding_dim
        self.missing = missing

    @property
    def _options(self) -> dict[str, Any]:
        return {
            "num_embeddings": self.num_embeddings,
            "embedding_dim": self.embedding_dim,
            "missing": self.missing,
        }

    @property
    def _sizes(self) -> tuple[int, ...]:
        return (self.num_embeddings,)

    @property
    def _parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"weight": (self._rows, self.embedding_dim)}

    def _initial_parameters(self, rng: np.random.Generator) -> dict[str, Array]:
        return {"weight": rng.normal(size=(self._rows, self.embedding_dim))}


class OneHotLinear(CategoryLayer):
    """A `Linear` layer over one-hot columns that never come into being.

    ``y = bias + weight[:, code of column 0] + weight[:, size of column 0 + code of column 1] + ...``
    is what `Linear` makes of the one-hot columns of all categories side by side, at the cost of the
    few weights that count: a sum of embeddings, one for each column.

    Parameters
    ----------
    cardinalities : sequence of int
        Number of categories of each column of x; their values are codes, as `Embedding` takes them.
    out_features : int
        Width of y.
    bias : bool
        Whether to add a bias.
    missing : {"error", "category", "zeros"}
        What NaN is: an error; a category of its own, after the others of its column; or a column
        that is 0 for all categories.

    Notes
    -----
    ``weight`` has shape (out_features, sum of all categories), that of the `Linear` layer, and both
    begin uniform in ±1/sqrt(sum of all categories). Over numbers and categories,
    ``Parallel(Linear(...), OneHotLinear(...), columns=..., join="sum")`` is one linear layer.

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> model = dl.Sequential(dl.OneHotLinear([2, 3], 4), seed=0)
    >>> one_hot = np.array([[0, 1, 1, 0, 0]], np.float32)  # category 1 of 2, 0 of 3
    >>> expected = one_hot @ model[0].weight.T + model[0].bias
    >>> bool(np.allclose(model(np.array([[1, 0]], np.float32)), expected))
    True
    """

    cardinalities: Fixed[tuple[int, ...]] = Fixed(lambda name, value: _checked_sizes(name, value))
    has_bias: Fixed[bool] = Fixed(check_flag)

    def __init__(
        self,
        cardinalities: Sequence[int],
        out_features: int,
        bias: bool = True,
        *,
        missing: Missing = "error",
    ) -> None:
        self.cardinalities = cardinalities  # type: ignore[assignment]
        self.in_features, self.out_features = len(self.cardinalities), out_features
        self.has_bias = check_flag(f"{type(self).__name__}: bias", bias)
        self.missing = missing

    bias: ArrayAttribute[Array | None] = ArrayAttribute(
        "Bias of shape (out_features,), or None; ``layer.bias = b`` changes it in place.",
        or_none=True,
    )

    @property
    def _options(self) -> dict[str, Any]:
        return {
            "cardinalities": [*self.cardinalities],
            "out_features": self.out_features,
            "bias": self.has_bias,
            "missing": self.missing,
        }

    @property
    def _sizes(self) -> tuple[int, ...]:
        return self.cardinalities

    @property
    def _parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {"weight": (self.out_features, self._rows)}
        return shapes | ({"bias": (self.out_features,)} if self.has_bias else {})

    def _parameter_of(self, name: str, flat: Array) -> Array:
        """Return the parameter whose elements are in a 1-D array: a view."""
        if name == "weight":  # the weights of a category lie side by side
            return flat.reshape(self._rows, self.out_features).T
        return super()._parameter_of(name, flat)

    def _initial_parameters(self, rng: np.random.Generator) -> dict[str, Array]:
        bound = 1 / math.sqrt(self._rows)
        return {n: rng.uniform(-bound, bound, shape) for n, shape in self._parameter_shapes.items()}


class CategoricalEmbeddings(Branches):
    """An `Embedding` for each of several columns; other columns pass as they are.

    Its outputs are the columns that hold no categories, in their order, and then the embeddings, in
    the order of ``cardinalities``: what the first layer of a network for a table takes.

    Parameters
    ----------
    cardinalities : sequence of int
        Number of categories of each column of categories.
    embedding_dims : int or sequence of int
        Width of the embedding of each, or of all of them.
    columns : sequence of int, optional
        The columns of x that hold them, in the order of ``cardinalities``; all columns by default.
    in_features : int, optional
        Columns of x; by default those up to the last one of ``columns``.
    missing : {"error", "category", "zeros"}
        What NaN is in them, see `Embedding`.

    Notes
    -----
    The tables are "0.0.weight", "0.1.weight", ... where it is layer 0 of a model. Any of them may be
    frozen, or have options of its own in an optimizer.

    References
    ----------
    Guo, Berkhahn: Entity embeddings of categorical variables, 2016.

    Examples
    --------
    Of six columns, those with numbers 1 and 4 hold categories, 3 and 200 of them:

    >>> import dlcore as dl
    >>> embeddings = dl.CategoricalEmbeddings([3, 200], [2, 8], columns=[1, 4], in_features=6)
    >>> model = dl.Sequential(embeddings, dl.Linear(4 + 2 + 8, 2), seed=0)
    >>> {name: p.shape for name, p in model.named_parameters().items()}
    {'0.0.weight': (3, 2), '0.1.weight': (200, 8), '1.weight': (2, 14), '1.bias': (2,)}
    """

    _is_sum = False

    def __init__(
        self,
        cardinalities: Sequence[int],
        embedding_dims: int | Sequence[int] = 8,
        *,
        columns: Sequence[int] | None = None,
        in_features: int | None = None,
        missing: Missing = "error",
    ) -> None:
        kind = "CategoricalEmbeddings"
        sizes = _checked_sizes(f"{kind}: cardinalities", cardinalities)
        if is_several(embedding_dims):
            dims = [check_positive_int(f"{kind}: embedding_dims", d) for d in embedding_dims]
        else:
            dims = [check_positive_int(f"{kind}: embedding_dims", embedding_dims)] * len(sizes)
        if len(dims) != len(sizes):
            raise ValueError(
                f"{kind}: embedding_dims must be one for all or one for each of the {len(sizes)} "
                f"columns of categories, got {len(dims)}"
            )
        self.missing = _check_missing(f"{kind}: missing", missing)
        layers = [Embedding(n, d, missing=missing) for n, d in zip(sizes, dims, strict=True)]
        self._children = {str(i): layer for i, layer in enumerate(layers)}
        self._values: dict[str, Array] = {}
        self._columns = None if columns is None else _checked_columns(columns, len(sizes))
        own = range(len(sizes)) if self._columns is None else self._columns
        least = max(own) + 1
        width = (
            least
            if in_features is None
            else check_positive_int(f"{kind}: in_features", in_features)
        )
        if width < least or (self._columns is None and width > least):
            raise ValueError(
                f"{kind}: in_features is {width}, but its columns of categories are "
                f"{'all' if self._columns is None else 'up to'} {least}"
            )
        self._places = [*own]
        self.in_features, self.out_features = width, width - len(sizes) + sum(dims)

    @property
    def cardinalities(self) -> list[int]:
        """Number of categories of each column."""
        return [layer.num_embeddings for layer in self._embeddings]

    @property
    def embedding_dims(self) -> list[int]:
        """Width of the embedding of each."""
        return [layer.embedding_dim for layer in self._embeddings]

    @property
    def columns(self) -> list[int]:
        """The columns of x that hold them."""
        return [*self._places]

    @property
    def _embeddings(self) -> list[Embedding]:
        return [layer for layer in self._children.values() if isinstance(layer, Embedding)]

    def _branches(self, width: int) -> list[tuple[int, int, dict[str, Layer]]]:
        ends = [-1, *sorted(self._places), width]
        numbers: list[tuple[int, int, dict[str, Layer]]] = [
            (before + 1, after, {}) for before, after in pairwise(ends) if after > before + 1
        ]
        return numbers + [
            (place, place + 1, {name: layer})
            for place, (name, layer) in zip(self._places, self._children.items(), strict=True)
        ]

    @property
    def _given_branches(self) -> list[Layer | list[Layer]]:
        return []  # they follow from the options

    @property
    def _options(self) -> dict[str, Any]:
        return {
            "cardinalities": self.cardinalities,
            "embedding_dims": self.embedding_dims,
            "columns": None if self._columns is None else [*self._columns],
            "in_features": self.in_features,
            "missing": self.missing,
        }


def _checked_sizes(name: str, value: Any) -> tuple[int, ...]:
    several = check_several(name, value, "a number of categories for each column")
    sizes = tuple(check_positive_int(name, size) for size in several)
    if not sizes:
        raise ValueError(f"{name} must be of one column or more")
    return sizes


def _checked_columns(columns: Sequence[int], count: int) -> tuple[int, ...]:
    try:
        own = tuple(operator.index(column) for column in columns)
    except TypeError:
        raise TypeError(
            f"CategoricalEmbeddings: columns must be numbers of columns, not {columns!r}"
        ) from None
    if len(own) != count or len(set(own)) != count or min(own) < 0:
        raise ValueError(
            f"CategoricalEmbeddings: columns must be {count} different ones counted from 0, one for "
            f"each of cardinalities, not {list(own)}"
        )
    return own


LAYERS |= {kind.__name__: kind for kind in (Embedding, OneHotLinear)}
LAYERS[CategoricalEmbeddings.__name__] = CategoricalEmbeddings
