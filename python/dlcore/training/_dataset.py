"""Rows to train and to validate on: checked, weighted and split."""

from __future__ import annotations

import math
import mmap
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._common.arrays import as_array, as_numbers, first_true, is_array_like
from dlcore.metrics._named import kind_of
from dlcore.nn._codes import check_codes, code_columns
from dlcore.nn._losses import NATIVE, Loss
from dlcore.training._rows import as_rows, dense

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dlcore._common.ranks import Ranks
    from dlcore._common.typing import Array
    from dlcore.nn._sequential import Sequential


@dataclass(eq=False)  # not frozen, which takes longer to make
class Dataset:
    """Rows of a data set: x of shape (N, features), y, and a weight for each row or None.

    ``sample_weight`` is the weight without that of the classes. ``made_of`` are the rows that these
    were made of, one by one, and ``prefix`` is what messages say before x and y.
    """

    x: Any  # an array or CompressedRows
    y: Array
    weight: Array | None = None
    sample_weight: Array | None = None
    made_of: Subset | None = None
    prefix: str = ""
    # What each row weighs in the mean loss, None for 1 each, and the loss that said so.
    weighed: list[tuple[Loss, Array | None]] = field(default_factory=list, repr=False)
    _mapped: MappedFile | None = field(default=None, init=False, repr=False)

    def __len__(self) -> int:
        rows: int = self.x.shape[0]
        return rows

    @property
    def mapped(self) -> MappedFile:
        """The file that x is mapped from."""
        if self._mapped is None:
            self._mapped = MappedFile(self.x)
        return self._mapped

    def counted(self) -> Subset:
        """Return the rows whose weight is not 0."""
        if self.weight is None or self.weight.all():
            return Subset(self)
        return Subset(self, np.flatnonzero(self.weight))


@dataclass(frozen=True)
class Subset:
    """Some rows of a data set, copied only when and as far as they are needed."""

    rows: Dataset
    index: Array | None = None  # None: all of them

    def __len__(self) -> int:
        return len(self.rows) if self.index is None else len(self.index)

    def part(self, start: int, stop: int) -> Dataset:
        """Return some of them."""
        some = slice(start, stop) if self.index is None else self.index[start:stop]
        weight = self.rows.weight
        return Dataset(
            self.rows.x[some], self.rows.y[some], None if weight is None else weight[some]
        )

    def parts(self, most: int) -> Iterator[Dataset]:
        """Give all of them, at most so many at a time."""
        mapped = MappedFile(self.rows.x)
        for start in range(0, len(self), most):
            yield self.part(start, start + most)
            mapped.release()


class MappedFile:
    """The file that an array is mapped from, as far as it is in memory; nothing for other arrays.

    Pages that were read count as memory of the process until they are given back, so that reading a
    file larger than the memory looks like using it up. Only those of a `numpy.memmap` that shares
    its file are given back: the file holds what is in them. The pages of a private map (mode "c")
    and of an anonymous one are nowhere else, and of a bare `mmap.mmap` nobody knows what it is.
    """

    def __init__(self, array: Array) -> None:
        base = shared_map_of(array)
        is_large = base is not None and len(base) >= self.least
        self._map = base if is_large and hasattr(mmap, "MADV_DONTNEED") else None

    least = 1 << 26  # bytes of a map that is worth it

    def __bool__(self) -> bool:
        return self._map is not None

    def release(self) -> None:
        """Give its pages back; they are read again when they are needed."""
        if self._map is not None:
            self._map.madvise(mmap.MADV_DONTNEED)


def shared_map_of(array: Any) -> mmap.mmap | None:
    """Return the map of a file that the memory of an array is, through which the file is written."""
    base, is_shared = array, False
    while base is not None and not isinstance(base, mmap.mmap):
        is_shared |= isinstance(base, np.memmap) and base.mode in ("r", "r+", "w+")
        base = getattr(base, "base", None)
    return base if is_shared else None


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
    model: Sequential,
    loss: Loss,
    x: Any,
    y: Any,
    weight: Any = None,
    prefix: str = "",
    *,
    some_count: bool = True,
    any_dtype: bool = False,
) -> Dataset:
    """Make sure that rows fit the model and the loss, and that some count.

    Whatever stands in y where a row weighs nothing is not looked at.

    Parameters
    ----------
    model : Sequential
    loss : Loss
    x, y, weight : object
        As the user gave them.
    prefix : str
        What messages say before "x", "y" and "sample_weight".
    some_count : bool
        Whether it is an error that no row counts.
    any_dtype : bool
        Whether x may have another dtype than the model.
    """
    x = as_rows(x, f"{prefix}x", model.dtype, model.in_features, any_dtype=any_dtype)
    n = x.shape[0]
    if weight is not None:
        weight = as_weights(weight, f"{prefix}sample_weight", n)
        y = _covered(y, f"{prefix}y", weight, by_zeros=type(loss) in NATIVE)
    y = loss.check(y, f"{prefix}y", model.out_features or x.shape[1], model.dtype)
    if n != len(y):
        raise ValueError(f"{prefix}x has {n} rows, {prefix}y {len(y)}")
    rows = Dataset(x, y, weight, weight, prefix=prefix)
    if not any_dtype:
        _check_codes(model, rows)
    check_counts(loss, rows, some_count=some_count)
    return rows


def _check_codes(model: Sequential, rows: Dataset) -> None:
    """Make sure that values of x are categories where layers take codes.

    Steps look at them as well: a file is not read once more for that, nor sparse rows made dense.
    """
    is_here = isinstance(rows.x, np.ndarray) and not MappedFile(rows.x)
    if is_here and code_columns(model.layers):
        check_codes(model.layers, rows.x, f"{rows.prefix}x")


def _covered(y: Any, name: str, weight: Array, *, by_zeros: bool) -> Any:
    """Replace the targets of rows that weigh nothing by 0 or one that counts, which any loss takes."""
    if weight.all() or not weight.any():
        return y
    if isinstance(y, Mapping):
        return {
            key: _covered(value, f"{name}[{key!r}]", weight, by_zeros=by_zeros)
            for key, value in y.items()
        }
    if not is_array_like(y):
        return y
    array = as_array(y, name)
    if array.ndim == 0 or len(array) != len(weight):
        return y
    covered = array.copy()
    covered[weight == 0] = 0 if by_zeros else array[np.flatnonzero(weight)[0]]
    return covered


def check_counts(
    loss: Loss, rows: Dataset, index: Array | None = None, prefix: str = "", some_count: bool = True
) -> None:
    """Make sure that some rows count: their weight is not 0 and their class not ignored."""
    weights, n = loss_weights(loss, rows), len(rows) if index is None else len(index)
    total = n if weights is None else (weights if index is None else weights[index]).sum()
    prefix = prefix or rows.prefix
    if some_count and not total > 0:
        raise ValueError(f"{prefix}x has no row that counts, of {n} rows")
    if total == np.inf:
        raise ValueError(f"{prefix}sample_weight adds up to infinity")


def loss_weights(loss: Loss, rows: Dataset, *, anew: bool = False) -> Array | None:
    """Compute what each row contributes to the denominator of the mean loss, once; None for 1 each."""
    if anew or not rows.weighed or rows.weighed[-1][0] is not loss:
        own = None
        is_plain = rows.weight is None and type(loss).normalizers is Loss.normalizers
        if not is_plain or loss.row_weights(rows.y) is not None:
            own = loss.normalizers(rows.y, rows.weight)
        rows.weighed[:] = [(loss, own)]
    return rows.weighed[-1][1]


def all_loss_weights(loss: Loss, rows: Dataset) -> Array:
    """Compute `loss_weights` as an array in any case."""
    weights = loss_weights(loss, rows)
    return np.ones(len(rows)) if weights is None else weights


def describe_fault(loss: Loss, rows: Dataset, index: Array) -> str | None:
    """Name the first of some rows with NaN or an infinity in x or y; None if there is none."""
    given = rows.made_of
    if given is not None:
        of_given = index if given.index is None else given.index[index]
        fault = describe_fault(loss, given.rows, of_given)
        if fault is not None:
            return fault
    after = "" if given is None else ", made by transform or mix,"
    missing = type(loss).present is not Loss.present
    for name, values in (("x", dense(rows.x[index])), ("y", rows.y[index])):
        if values.dtype.kind != "f":
            continue
        values = values.reshape(len(values), math.prod(values.shape[1:]))
        place = first_true(np.isinf(values) if name == "y" and missing else ~np.isfinite(values))
        if place is not None:
            row, column = place
            number = index[row] if given is None else of_given[row]
            value = values[row, column]
            return f"{rows.prefix}{name}[{number}, {column}]{after} is {value}"
    return None


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
    fraction: float,
    seed: np.random.SeedSequence,
    index: Array | None = None,
    *,
    some_count: bool = True,
) -> tuple[Array, Subset | None]:
    """Return indices of the rows to train on and a share of them to validate on, in their order.

    ``index`` are the rows that both come from, by default all. ``some_count`` tells whether it is an
    error that none are left, or that none of either count.
    """
    if index is None:
        index = np.arange(len(rows))
    n = len(index)
    if not fraction:
        return index, None
    _check_as_they_are("validation_split", rows, model.dtype)
    size = max(int(some_count), round(n * fraction))
    if size == n and some_count:
        raise ValueError(f"validation_split={fraction} leaves none of {n} rows to train on")
    drawn = np.random.default_rng(seed).permutation(n)
    held = index[np.sort(drawn[:size])]
    return index[np.sort(drawn[size:])], _counted(loss, rows, held, some_count=some_count)


def subset_to_validate_on(model: Sequential, loss: Loss, rows: Dataset, index: Array) -> Subset:
    """Return rows of these indices that count."""
    _check_as_they_are("validation_rows", rows, model.dtype)
    return _counted(loss, rows, index)


def _check_as_they_are(name: str, rows: Dataset, dtype: np.dtype[Any]) -> None:
    if rows.x.dtype != dtype:
        raise ValueError(
            f"{name} takes rows of x as they are, {rows.x.dtype}, but the model is "
            f"{dtype}: pass validation_data=(x, y) with x of that dtype"
        )


def _counted(loss: Loss, rows: Dataset, index: Array, *, some_count: bool = True) -> Subset:
    """Return the rows of these indices whose weight is not 0, one of which counts."""
    check_counts(loss, rows, index, "validation ", some_count)
    return Subset(rows, index if rows.weight is None else index[rows.weight[index] > 0])


def weigh_classes(
    model: Sequential,
    loss: Loss,
    rows: Dataset,
    index: Array,
    class_weight: Mapping[Any, float] | Sequence[float] | Array | str | None,
    ranks: Ranks | None = None,
) -> Dataset:
    """Multiply the weights of the rows to train on, of which other ranks have more, by those of their classes."""
    if class_weight is None:
        return rows
    weight = rows.weight
    if weight is not None:
        index = index[weight[index] > 0]
    by_class = np.zeros(len(rows))
    classes = loss.classes(model.out_features or rows.x.shape[1])
    by_class[index] = class_weights(class_weight, rows.y[index], kind_of(loss), classes, ranks)
    own = by_class if weight is None else by_class * weight
    return replace(rows, weight=own, weighed=[])


def check_trains(loss: Loss, rows: Dataset, index: Array) -> None:
    """Make sure that some of the rows to train on count."""
    if not all_loss_weights(loss, rows)[index].sum() > 0:
        raise ValueError("no row to train on counts: their weights are all 0")


def class_weights(
    class_weight: Mapping[Any, float] | Sequence[float] | Array | str,
    y: Array,
    kind: str,
    classes: int | None,
    ranks: Ranks | None = None,
) -> Array:
    """Weigh each row by its class.

    Parameters
    ----------
    class_weight : mapping, array or "balanced"
        Weights by class, 1 for a class not named; or one for each class. "balanced" is
        N / (classes * rows of the class), which gives every class the same total weight
        (King & Zeng, 2001; as in scikit-learn).
    y : ndarray of shape (N,), (N, 1) or (N, classes)
        Classes, probabilities of yes, or class probabilities such as one-hot rows, which have the
        mean weight of their classes.
    kind : {"classes", "labels", "values"}
        What y are: one of several classes, yes or no, or values.
    classes : int or None
        Number of classes, None if the loss knows none.
    ranks : Ranks, optional
        Have more rows, which "balanced" counts, too.
    """
    shares = None if classes is None else _class_shares(y, kind, classes)
    if classes is None or shares is None:
        raise ValueError("class_weight needs a loss for classes, and one class a row")
    labels, index, counts = shares
    if is_array_like(class_weight) or isinstance(class_weight, list | tuple):
        given = as_numbers(class_weight, "class_weight")
        if given.shape != (classes,):
            raise ValueError(
                f"class_weight must have a weight for each of {classes} classes, "
                f"got {len(given) if given.ndim else given}"
            )
        class_weight = dict(enumerate(given.tolist()))
    if isinstance(class_weight, Mapping):
        unknown = [label for label in class_weight if label not in range(classes)]
        if unknown:
            raise ValueError(f"class_weight names {unknown}; the classes are 0 to {classes - 1}")
        weights = np.array([class_weight.get(label, 1.0) for label in labels.tolist()], np.float64)
        of_class = as_weights(weights, "class_weight", len(labels))
    elif class_weight == "balanced":
        of_class = _balanced(labels, counts, len(y), ranks)
    else:
        raise ValueError(
            f"class_weight must be a dict, an array or 'balanced', not {class_weight!r}"
        )
    weighed: Array = of_class[index] if index.ndim == 1 else index @ of_class
    return weighed


def _balanced(labels: Array, counts: Array, rows: int, ranks: Ranks | None) -> Array:
    """Return the weight of each of these classes that gives all the same total weight."""
    if ranks is not None:
        of_each = ranks.of_each((rows, dict(zip(labels.tolist(), counts.tolist(), strict=True))))
        rows, by_label = sum(own for own, _ in of_each), Counter[Any]()
        for _, own in of_each:
            by_label.update(own)
        counts = np.array([by_label[label] for label in labels.tolist()])
        classes = sum(count > 0 for count in by_label.values())
    else:
        classes = int(np.count_nonzero(counts))
    weights: Array = np.divide(rows, classes * counts, out=np.zeros(len(counts)), where=counts > 0)
    return weights


def _class_shares(y: Array, kind: str, classes: int) -> tuple[Array, Array, Array] | None:
    """Return the classes, which of them each row is, and how many rows are of each.

    Which one is an index of shape (N,), or shares of shape (N, classes). None for several classes
    a row.
    """
    if y.dtype.kind in "iu":
        if y.size != len(y):
            return None
        labels, index = np.unique(y.reshape(-1), return_inverse=True)
        return labels, index, np.bincount(index, minlength=len(labels))
    if kind == "labels" and y.shape[1:] == (1,):
        y = np.hstack([1 - y, y])
    elif kind != "classes" or y.shape[1:] != (classes,):
        return None
    shares = y.astype(np.float64)
    return np.arange(classes), shares, shares.sum(0)
