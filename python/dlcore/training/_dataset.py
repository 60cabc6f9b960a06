"""Rows to train and to validate on: checked, weighted and split."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._common.arrays import as_array, as_matrix
from dlcore._common.checks import check_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dlcore._common.typing import Array
    from dlcore.nn._losses import Loss
    from dlcore.nn._sequential import Sequential


@dataclass(frozen=True)
class Dataset:
    """Rows of a data set: x of shape (N, features), y, and a weight for each row or None.

    ``sample_weight`` is the weight without that of the classes.
    """

    x: Array
    y: Array
    weight: Array | None = None
    sample_weight: Array | None = None


@dataclass(frozen=True)
class Subset:
    """Some rows of a data set, copied only when and as far as they are needed."""

    rows: Dataset
    index: Array | None = None  # None: all of them

    def __len__(self) -> int:
        return len(self.rows.x if self.index is None else self.index)

    def x(self, start: int, stop: int) -> Array:
        """Return x of some of them."""
        if self.index is None:
            return self.rows.x[start:stop]
        return self.rows.x[self.index[start:stop]]

    @property
    def y(self) -> Array:
        """All that they should give."""
        return self.rows.y if self.index is None else self.rows.y[self.index]

    @property
    def weight(self) -> Array | None:
        """All weights."""
        weight = self.rows.weight
        return weight if weight is None or self.index is None else weight[self.index]


class MappedFile:
    """The file that an array is mapped from, as far as it is in memory; nothing for other arrays.

    Pages that were read count as memory of the process until they are given back, so that reading a
    file larger than the memory looks like using it up. Only those of a `numpy.memmap` that shares
    its file are given back: the file holds what is in them. The pages of a private map (mode "c")
    and of an anonymous one are nowhere else, and of a bare `mmap.mmap` nobody knows what it is.
    """

    def __init__(self, array: Array) -> None:
        self._map: mmap.mmap | None = None
        base: Any = array
        is_shared = False
        while base is not None and not isinstance(base, mmap.mmap):
            is_shared |= isinstance(base, np.memmap) and base.mode in ("r", "r+", "w+")
            base = getattr(base, "base", None)
        if is_shared and base is not None and len(base) >= self.least:
            self._map = base if hasattr(mmap, "MADV_DONTNEED") else None

    least = 1 << 26  # bytes of a map that is worth it

    def __bool__(self) -> bool:
        return self._map is not None

    def release(self) -> None:
        """Give its pages back; they are read again when they are needed."""
        if self._map is not None:
            self._map.madvise(mmap.MADV_DONTNEED)


def as_weights(weight: Any, name: str, rows: int) -> Array:
    """Convert weights of rows to float64: one for each row, finite, none negative."""
    weights = as_array(weight, name)
    if weights.dtype.kind not in "fiu":
        raise TypeError(f"{name} must hold numbers, not {weights.dtype}")
    if weights.shape != (rows,):
        raise ValueError(f"{name} must have shape ({rows},), not {weights.shape}")
    bad = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if bad.size:
        raise ValueError(f"{name}[{bad[0]}] is {weights[bad[0]]}; weights are finite and >= 0")
    wide = weights.astype(np.float64)
    # A training step takes subnormal numbers for 0.
    return np.where(wide < np.finfo(np.float64).tiny, 0.0, wide)


def check_rows(
    model: Sequential, loss: Loss, x: Any, y: Any, weight: Any, prefix: str = ""
) -> Dataset:
    """Make sure that rows fit the model and the loss, and that some count."""
    x = as_matrix(x, f"{prefix}x", model.dtype, model.in_features)
    y = loss.check(y, f"{prefix}y", model.out_features or x.shape[1], model.dtype)
    if len(x) != len(y):
        raise ValueError(f"{prefix}x has {len(x)} rows, {prefix}y {len(y)}")
    if weight is not None:
        weight = as_weights(weight, f"{prefix}sample_weight", len(x))
    rows = Dataset(x, y, weight, weight)
    check_counts(loss, Subset(rows), prefix)
    return rows


def check_counts(loss: Loss, rows: Subset, prefix: str = "") -> None:
    """Make sure that some rows count: their weight is not 0 and their class not ignored."""
    total = loss_weights(loss, rows).sum()
    if not total > 0:
        raise ValueError(f"{prefix}x has no row that counts, of {len(rows)} rows")
    if total == np.inf:
        raise ValueError(f"{prefix}sample_weight adds up to infinity")


def loss_weights(loss: Loss, rows: Dataset | Subset) -> Array:
    """Compute what each row contributes to the denominator of the mean loss."""
    return loss.normalizers(rows.y, rows.weight)


def present(loss: Loss, rows: Dataset) -> Array | None:
    """Weigh each target of each row, 0 where it is missing; None if none is."""
    there = loss.present(rows.y)
    if there is None or rows.weight is None:
        return there
    weighted: Array = there * rows.weight[:, np.newaxis]
    return weighted


def hold_out(
    model: Sequential,
    loss: Loss,
    rows: Dataset,
    validation_data: tuple[Any, ...] | None,
    fraction: float,
    seed: np.random.SeedSequence,
) -> tuple[Array, Subset | None]:
    """Return indices of the rows to train on, ascending, and the rows to validate on."""
    check_in("validation_split", fraction, "[0, 1)")
    n = len(rows.x)
    if validation_data is not None:
        if fraction:
            raise ValueError("fit takes validation_data or validation_split, not both")
        if len(validation_data) not in (2, 3):
            raise ValueError("validation_data must be (x, y) or (x, y, sample_weight)")
        x, y, weight = (*validation_data, None)[:3]
        return np.arange(n), Subset(check_rows(model, loss, x, y, weight, "validation "))
    if not fraction:
        return np.arange(n), None
    size = max(1, round(n * fraction))
    if size == n:
        raise ValueError(f"validation_split={fraction} leaves none of {n} rows to train on")
    drawn = np.random.default_rng(seed).permutation(n)
    held = np.sort(drawn[:size])
    check_counts(loss, Subset(rows, held), "validation ")
    return np.sort(drawn[size:]), Subset(rows, held)


def weigh_classes(
    model: Sequential,
    loss: Loss,
    rows: Dataset,
    index: Array,
    class_weight: Mapping[Any, float] | Sequence[float] | Array | str | None,
) -> Dataset:
    """Multiply the weights of the rows to train on by those of their classes."""
    weight = rows.weight
    if class_weight is not None:
        by_class = np.zeros(len(rows.y))
        classes = loss.classes(model.out_features or 0)
        by_class[index] = class_weights(class_weight, rows.y[index], classes)
        weight = by_class if weight is None else by_class * weight
    weighted = Dataset(rows.x, rows.y, weight, rows.sample_weight)
    if not loss_weights(loss, weighted)[index].sum() > 0:
        raise ValueError("no row to train on counts: their weights are all 0")
    return weighted


def class_weights(
    class_weight: Mapping[Any, float] | Sequence[float] | Array | str, y: Array, classes: int | None
) -> Array:
    """Weigh each row by its class.

    Parameters
    ----------
    class_weight : mapping, array or "balanced"
        Weights by class, 1 for a class not named; or one for each class. "balanced" is N / (classes * rows of the class),
        which gives every class the same total weight (King & Zeng, 2001; as in scikit-learn).
    y : ndarray of shape (N,) or (N, 1)
        Classes.
    classes : int or None
        Number of classes, None if the loss knows none.
    """
    if classes is None or y.size != len(y):
        raise ValueError("class_weight needs a loss for classes, and one class a row")
    labels, index = np.unique(y.reshape(-1), return_inverse=True)
    if isinstance(class_weight, np.ndarray | list | tuple):
        if len(class_weight) != classes:
            raise ValueError(
                f"class_weight must have a weight for each of {classes} classes, "
                f"got {len(class_weight)}"
            )
        class_weight = dict(enumerate(class_weight))
    if isinstance(class_weight, Mapping):
        unknown = [label for label in class_weight if label not in range(classes)]
        if unknown:
            raise ValueError(f"class_weight names {unknown}; the classes are 0 to {classes - 1}")
        given = np.array([class_weight.get(label, 1.0) for label in labels.tolist()], np.float64)
        return as_weights(given, "class_weight", len(labels))[index]
    if class_weight != "balanced":
        raise ValueError(
            f"class_weight must be a dict, an array or 'balanced', not {class_weight!r}"
        )
    balanced: Array = len(y) / (len(labels) * np.bincount(index))
    return balanced[index]
