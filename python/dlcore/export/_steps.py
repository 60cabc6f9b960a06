"""The steps that a description is made of: what each of them computes, and with which arrays."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from dlcore._common.typing import Array
    from dlcore.preprocessing._column_map import ColumnMap


@dataclass(frozen=True)
class Linear:
    """``x @ weight.T + bias``; the weight has the shape (out, in).

    Of k members each has its own where there is one more axis: (k, out, in) and (k, out).
    """

    weight: Array
    bias: Array


@dataclass(frozen=True)
class Affine:
    """``x * weight + bias`` of each feature, of shape (features,) or, of members, (k, features)."""

    weight: Array
    bias: Array


@dataclass(frozen=True)
class Columns:
    """``(x - subtract) * multiply + add`` of each column, in float64, kept between two bounds.

    The bounds are those of all columns, or of each.
    """

    subtract: Array
    multiply: Array
    add: Array
    low: float | Array = -np.inf
    high: float | Array = np.inf

    @classmethod
    def of(cls, column_map: ColumnMap, name: str) -> Columns:
        """Take over the map of a normalizer of this name."""
        if column_map.exponent is not None:
            raise beyond_float64(name)
        subtract, multiply, add = column_map.table
        return cls(subtract, multiply, add, column_map.low, column_map.high)


@dataclass(frozen=True)
class SmoothClip:
    """``x / sqrt(1 + (x / bound)**2)``, in float64."""

    bound: float


@dataclass(frozen=True)
class Quantiles:
    """What has the same share of the normal distribution below it as x has of each column, in float64.

    The quantiles have the shape (levels, columns), and are those of evenly spaced levels.
    """

    values: Array


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
class Parametric:
    """``x + weight * (f(x) - x)`` of each feature, and x where f(x) is x."""

    activation: Activation
    weight: Array


@dataclass(frozen=True)
class PReLU:
    """``x`` where x > 0, else ``weight * x``; a weight for each feature, or one for all."""

    weight: Array


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


@dataclass(frozen=True)
class FeatureLinear:
    """``x[:, f] @ weight[f] + bias[f]`` of each feature f, whose columns lie side by side.

    The weight has the shape (features, in, out), or (1, in, out) if all features share it; so has
    the bias, (features, out) or (1, out).
    """

    n_features: int
    weight: Array
    bias: Array


@dataclass(frozen=True)
class Periodic:
    """``cos(2 pi x[f] weight[f])`` and then the sines of each feature f; or cosines with a phase."""

    weight: Array
    bias: Array | None


@dataclass(frozen=True)
class Piecewise:
    """``(x[f] - lower[f]) * scale[f]`` of each feature f, between ``low[f]`` and ``high[f]``."""

    lower: Array
    scale: Array
    low: Array
    high: Array


@dataclass(frozen=True)
class Take:
    """Some of the columns."""

    columns: tuple[int, ...]


@dataclass(frozen=True)
class Missing:
    """NaN as 0 and all else as it is, or 1 for NaN and 0 for all else."""

    indicates: bool


@dataclass(frozen=True)
class Branch:
    """Steps over the columns from a start to a stop; None for all columns."""

    columns: tuple[int, int] | None
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Branches:
    """Branches over the same rows, and what their results become.

    They lie side by side, "concat", are added, "sum", or have a mean as that of `Members`, "outputs",
    "softmax" or "sigmoid", or "exp", of the values whose logarithms they are; the probabilities are
    those of targets with so many classes each.
    """

    branches: tuple[Branch, ...]
    join: str
    widths: tuple[int, ...] = ()


@dataclass(frozen=True)
class Members:
    """Steps of k members, each with the same rows, and what they give together.

    That is the mean of their outputs, or the logarithm or the logit of the mean of the probabilities
    that these are the logits of: of "softmax" or of "sigmoid".
    """

    k: int
    steps: tuple[Step, ...]
    mean_of: str


Step = (
    Linear
    | Affine
    | Columns
    | SmoothClip
    | Quantiles
    | BatchNorm
    | RowNorm
    | Activation
    | Parametric
    | PReLU
    | Categories
    | FeatureLinear
    | Periodic
    | Piecewise
    | Take
    | Missing
    | Branches
    | Members
)


# The layers that a kind of step is of, for messages: of those that not every export takes.
NAMES: dict[type, str] = {
    SmoothClip: "normalizers such as RobustNormalizer",
    Quantiles: "normalizers such as QuantileNormalizer, by which recipe='tabm' takes numbers,",
    Parametric: "layers of ParametricActivation",
    PReLU: "layers of PReLU",
    Categories: "layers that take codes of categories",
    FeatureLinear: "embeddings of numbers",
    Periodic: "embeddings of numbers",
    Piecewise: "embeddings of numbers",
    Missing: "embeddings of numbers",
    Branches: "branches, such as those of Residual and Parallel, and ensembles",
    Members: "layers of members, such as LinearEnsemble,",
}


def beyond_float64(name: str) -> ValueError:
    """Return the error for a normalizer of columns that need an exponent of their own."""
    return ValueError(
        f"{name} has columns of a size near the limits of float64, which have no export: scale them "
        f"before"
    )


def all_steps(steps: Iterable[Step]) -> Iterator[Step]:
    """Give steps, and those of branches and members within them."""
    for step in steps:
        yield step
        if isinstance(step, Branches):
            yield from (own for branch in step.branches for own in all_steps(branch.steps))
        elif isinstance(step, Members):
            yield from all_steps(step.steps)


def with_arrays(part: Any, change: Callable[[Array], Array]) -> Any:
    """Return a step, or several, with other arrays, but for what is computed in float64."""
    if isinstance(part, np.ndarray):
        return change(part)
    if isinstance(part, tuple):
        return tuple(with_arrays(own, change) for own in part)
    if is_dataclass(part) and not isinstance(part, Columns | Quantiles):
        own = {field.name: getattr(part, field.name) for field in fields(part)}
        return replace(part, **{n: with_arrays(v, change) for n, v in own.items()})  # type: ignore[type-var]
    return part


def arrays_of(part: Any) -> Iterator[Array]:
    """Give all arrays of a step, or of several."""
    if isinstance(part, np.ndarray):
        yield part
    elif isinstance(part, tuple):
        for own in part:
            yield from arrays_of(own)
    elif is_dataclass(part):
        for field in fields(part):
            yield from arrays_of(getattr(part, field.name))
