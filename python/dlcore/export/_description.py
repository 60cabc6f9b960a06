"""What every exporter reads: a pipeline as a list of steps, and what its outputs mean."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dlcore.export._steps import with_arrays

if TYPE_CHECKING:
    import numpy as np

    from dlcore._common.typing import Array
    from dlcore.export._steps import Columns, Step


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
        steps = with_arrays(self.steps, lambda array: array.astype(dtype))
        return replace(self, dtype=dtype, steps=steps)


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
