"""What every exporter reads: a pipeline as a list of steps, and what its outputs mean."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore.nn import _layers as nn
from dlcore.nn._embeddings import CategoricalEmbeddings, CategoryLayer, OneHotLinear
from dlcore.nn._featurewise import Scale
from dlcore.nn._transfer import fold_batch_norm

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dlcore._common.typing import Array
    from dlcore.nn._sequential import Sequential
    from dlcore.preprocessing._column_map import ColumnMap


@dataclass(frozen=True)
class Linear:
    """``x @ weight.T + bias``; the weight has the shape (out, in)."""

    weight: Array
    bias: Array


@dataclass(frozen=True)
class Columns:
    """``(x - subtract) * multiply + add`` of each column, in float64, kept between two bounds."""

    subtract: Array
    multiply: Array
    add: Array
    low: float = -np.inf
    high: float = np.inf

    @classmethod
    def of(cls, column_map: ColumnMap, name: str) -> Columns:
        """Take over the map of a normalizer of this name."""
        if column_map.exponent is not None:
            raise ValueError(
                f"{name} has columns of a size near the limits of float64, which have no export: "
                f"scale them before"
            )
        subtract, multiply, add = column_map.table
        return cls(subtract, multiply, add, column_map.low, column_map.high)


@dataclass(frozen=True)
class BatchNorm:
    """``(x - mean) / sqrt(var + eps) * weight + bias`` of each feature."""

    mean: Array
    var: Array
    eps: float
    weight: Array
    bias: Array

    @property
    def scale(self) -> Array:
        """What ``x - mean`` is multiplied by."""
        eps = self.var.dtype.type(self.eps)
        scale: Array = self.var.dtype.type(1) / np.sqrt(self.var + eps)
        return scale


@dataclass(frozen=True)
class RowNorm:
    """A row less its mean, if centered, over the root of its mean square; then as `BatchNorm`."""

    is_centered: bool
    eps: float
    weight: Array
    bias: Array


@dataclass(frozen=True)
class Activation:
    """A function of each element: the name of its kernel, and its options."""

    kernel: str
    options: dict[str, Any]


@dataclass(frozen=True)
class Categories:
    """The numbers in some columns, and a row of a table for the code in each of others.

    They lie side by side, or are a sum if there is a ``bias``. NaN has the last row of each table, if
    it ``has_missing`` ones.
    """

    numbers: tuple[int, ...]
    columns: tuple[int, ...]
    tables: tuple[Array, ...]
    bias: Array | None
    has_missing: bool

    @classmethod
    def of(cls, layer: CategoryLayer | CategoricalEmbeddings) -> Categories:
        """Describe a layer that takes codes."""
        numbers: list[int] = []
        bias = None
        if isinstance(layer, CategoricalEmbeddings):
            columns = layer.columns
            numbers = [c for c in range(layer.in_features or 0) if c not in columns]
            tables = [own.weight for own in layer._embeddings]
        else:
            columns = [*range(len(layer._sizes))]
            tables = [layer.weight]
        if isinstance(layer, OneHotLinear):
            sizes = np.array(layer._sizes) + (layer.missing == "category")
            tables = np.split(layer.weight.T, np.cumsum(sizes)[:-1])
            bias = _or_constant(layer.bias, 0, layer.out_features, layer.weight.dtype)
        if layer.missing == "zeros":
            tables = [np.vstack([table, np.zeros_like(table[:1])]) for table in tables]
        copied = tuple(np.array(table, order="C") for table in tables)
        return cls(tuple(numbers), tuple(columns), copied, bias, layer.missing != "error")


Step = Linear | Columns | BatchNorm | RowNorm | Activation | Categories


@dataclass(frozen=True)
class Output:
    """What the outputs of the network mean.

    Attributes
    ----------
    kind : str
        "identity" and "exp" are values; "quantiles" are values that are sorted; "softmax" is one of
        several classes, "binary" one of two, "sigmoid" so many yes-or-no questions.
    classes : tuple of ndarray
        The labels of each target of a softmax or of a binary one.
    places : ndarray, optional
        Where each of the sorted quantiles goes.
    restore : Columns, optional
        Brings values back to the scale of the targets.
    """

    kind: str = "identity"
    classes: tuple[Array, ...] = ()
    places: Array | None = None
    restore: Columns | None = None

    @property
    def is_class(self) -> bool:
        """Whether it has labels and probabilities."""
        return self.kind in ("softmax", "binary", "sigmoid")


@dataclass(frozen=True)
class Description:
    """A pipeline that computes, on rows of a dtype, one step after the other.

    ``in_features`` is None for layers that take any number.
    """

    steps: tuple[Step, ...]
    dtype: np.dtype[Any]
    in_features: int | None
    out_features: int | None
    output: Output
    feature_names: tuple[str, ...] = ()

    def of_dtype(self, dtype: np.dtype[Any]) -> Description:
        """Round the parameters to another dtype."""
        return replace(self, dtype=dtype, steps=tuple(_rounded(step, dtype) for step in self.steps))


def after(columns: list[Columns], described: Description, function: str) -> Description:
    """Put maps of columns before the steps."""
    width = described.in_features
    for step in columns:
        if width is not None and len(step.add) != width:
            raise ValueError(
                f"{function}: a normalizer has {len(step.add)} columns, but what follows takes "
                f"{width} features"
            )
        width = len(step.add)
    out = described.out_features
    return replace(
        described,
        steps=(*columns, *described.steps),
        in_features=width,
        out_features=width if out is None else out,
    )


def of_network(model: Sequential, folds: bool = False) -> Description:
    """Describe a network, without its dropout, which does nothing outside of training."""
    if folds:
        model = fold_batch_norm(model)
    return Description(
        tuple(_steps(model)), model.dtype, model.in_features, model.out_features, Output()
    )


def _steps(model: Sequential) -> Iterator[Step]:
    dtype = model.dtype
    for layer in model.layers:
        if isinstance(layer, nn.Linear):
            weight = np.array(layer.weight * dtype.type(layer._factor), order="C")
            yield Linear(weight, _or_constant(layer.bias, 0, layer.out_features, dtype))
        elif isinstance(layer, nn.Normalization):
            features = layer.in_features
            assert features is not None
            weight = _or_constant(layer.weight, 1, features, dtype)
            bias = _or_constant(layer.bias, 0, features, dtype)
            if isinstance(layer, nn.BatchNorm1d):
                mean, var = layer.running_mean.copy(), layer.running_var.copy()
                yield BatchNorm(mean, var, layer.eps, weight, bias)
            else:
                eps = np.finfo(dtype).eps if layer.eps is None else layer.eps
                yield RowNorm(isinstance(layer, nn.LayerNorm), float(eps), weight, bias)
        elif isinstance(layer, Scale):
            zero, one = np.zeros_like(layer.weight), np.ones_like(layer.weight)
            yield BatchNorm(zero, one, 0.0, layer.weight.copy(), zero)
        elif isinstance(layer, CategoryLayer | CategoricalEmbeddings):
            yield Categories.of(layer)
        elif isinstance(layer, nn.Activation):
            yield Activation(layer.kernel, layer.options)
        elif not isinstance(layer, nn.Dropout):
            raise TypeError(f"{layer!r} has no export")


def _or_constant(values: Array | None, otherwise: float, width: int, dtype: Any) -> Array:
    return np.full(width, otherwise, dtype) if values is None else values.copy()


def _rounded(step: Step, dtype: np.dtype[Any]) -> Step:
    if isinstance(step, Columns | Activation):
        return step
    if isinstance(step, Categories):
        bias = None if step.bias is None else step.bias.astype(dtype)
        return replace(step, tables=tuple(t.astype(dtype) for t in step.tables), bias=bias)
    arrays: dict[str, Any] = {
        name: value for name, value in vars(step).items() if isinstance(value, np.ndarray)
    }
    return replace(step, **{name: value.astype(dtype) for name, value in arrays.items()})
