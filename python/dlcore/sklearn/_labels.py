"""The labels of a classifier: one column, indicators of several, or several columns of classes."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse
from sklearn.metrics import accuracy_score
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import compute_class_weight
from sklearn.utils.multiclass import (
    _check_partial_fit_first_call,
    type_of_target,
    unique_labels,
)

from dlcore.many._mean import parts_of
from dlcore.sklearn._checks import check_target
from dlcore.sklearn._sharding import all_labels

if TYPE_CHECKING:
    from dlcore._common.ranks import Ranks
    from dlcore._common.typing import Array


class LabelsMixin:
    """Encodes labels for the network, and decodes them.

    Encoded are the classes of one column as their numbers, of shape (N,), those of several as
    columns of numbers, and indicators as bool.
    """

    classes_: Any
    class_weight: Any
    warm_start: bool
    _label_binarizer: Any

    @property
    def _has_many_targets(self) -> bool:
        return isinstance(getattr(self, "classes_", None), list)

    @property
    def _is_multilabel(self) -> bool:
        return not self._has_many_targets and self._label_binarizer.y_type_.startswith("multilabel")

    def _declare_classes(self, classes: Any, y: Any) -> None:
        """Take the classes that the first call of `partial_fit` names, or check those of a later one."""
        if isinstance(classes, list) and classes and np.ndim(classes[0]) > 0:
            self._take_classes([np.unique(own) for own in classes])
        elif not self._has_many_targets and _check_partial_fit_first_call(self, classes):
            self._label_binarizer = LabelBinarizer()
            is_multilabel = type_of_target(y).startswith("multilabel")
            self._label_binarizer.fit(y if is_multilabel else classes)

    def _take_classes(self, classes: list[Array]) -> None:
        known = getattr(self, "classes_", None)
        if known is not None and (
            not isinstance(known, list)
            or len(known) != len(classes)
            or not all(map(np.array_equal, known, classes))
        ):
            raise ValueError(
                f"`classes={classes}` is not the same as on last call to partial_fit, was: {known}"
            )
        self.classes_ = classes

    def _is_new(self, incremental: bool) -> bool:
        """Whether the labels are the first ones of a network."""
        return not hasattr(self, "classes_") or not (self.warm_start or incremental)

    def _check_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Array]:
        return check_target(
            self,
            X,
            y,
            has_columns=self._has_many_targets and not self._is_new(incremental),
            dtype=(np.float64, np.float32),
            reset=reset,
        )

    def _all_targets(self, y: Any, shards: Ranks | None) -> tuple[Any, Array | None]:
        return all_labels(y, shards)

    def _learn_targets(self, y: Any, seen: tuple[Any, Array | None], incremental: bool) -> Array:
        """Learn which classes there are, or check those that there are; encode labels."""
        labels, _ = seen
        if self._is_new(incremental):
            if labels.ndim == 2 and type_of_target(labels) == "multiclass-multioutput":
                self.classes_ = [np.unique(column) for column in labels.T]
            else:
                self._label_binarizer = LabelBinarizer().fit(labels)
                self.classes_ = self._label_binarizer.classes_
        elif not self._has_many_targets:
            self._check_classes(unique_labels(labels), incremental)
        return self._encode(y)

    def _targets_are_plain(self) -> bool:
        """Whether `_plain_encoded` may know the labels."""
        return not self._has_many_targets and not self._is_multilabel

    def _plain_encoded(self, y: Any, rows: int) -> Array | None:
        """Return what `_encode` does for labels that no check has anything to say about; else None."""
        classes: Array = self.classes_
        if type(y) is list:
            try:
                y = np.asarray(y)
            except ValueError:  # a list of lists, not all as long
                return None
        if type(y) is not np.ndarray or y.shape != (rows,) or y.dtype.kind not in "biuU":
            return None
        if y.dtype.kind != classes.dtype.kind and not np.can_cast(y.dtype, classes.dtype):
            return None
        places = classes.searchsorted(y)
        return places if (classes.take(places, mode="clip") == y).all() else None

    def _check_classes(self, classes: Array, incremental: bool) -> None:
        """Make sure that these classes are known; those of a warm start are all of them."""
        if self.warm_start and not incremental:
            if set(classes) != set(self.classes_):
                raise ValueError(
                    "warm_start can only be used where `y` has the same classes as in the previous "
                    f"call to fit. Previously got {self.classes_}, `y` has {classes}"
                )
        elif len(np.setdiff1d(classes, self.classes_, assume_unique=True)):
            raise ValueError(
                "`y` has classes not in `self.classes_`. "
                f"`self.classes_` has {self.classes_}. 'y' has {classes}."
            )

    def _encode(self, y: Array) -> Array:
        """Return the numbers of classes, or indicators."""
        if not self._has_many_targets:
            if self._is_multilabel:
                return self._as_indicators(y)
            if np.ndim(y) != 1:
                raise ValueError(f"y must have one column of classes, got the shape {np.shape(y)}")
            return _numbers(y, self.classes_, "y")
        if np.ndim(y) != 2 or y.shape[1] != len(self.classes_):
            raise ValueError(f"y must have {len(self.classes_)} columns, got the shape {y.shape}")
        columns = [
            _numbers(y[:, i], classes, f"y[:, {i}]") for i, classes in enumerate(self.classes_)
        ]
        return np.stack(columns, axis=1)

    def _as_indicators(self, y: Any) -> Array:
        if np.ndim(y) != 2 or y.shape[1] != len(self.classes_):
            y = self._label_binarizer.transform(y)  # raises scikit-learn's error
        indicators: Array = (y.toarray() if scipy.sparse.issparse(y) else np.asarray(y)) != 0
        return indicators

    def _labels(self, y: Array) -> Array:
        """Return the labels of what `_encode` gave."""
        if self._has_many_targets:
            return np.stack([c[y[:, i]] for i, c in enumerate(self.classes_)], axis=1)
        labels: Array = (
            self._label_binarizer.inverse_transform(y) if self._is_multilabel else self.classes_[y]
        )
        return labels

    def _widths(self) -> list[int]:
        """Return how many outputs each column of classes has."""
        return [len(own) for own in (self.classes_ if self._has_many_targets else [self.classes_])]

    def _most_probable(self, outputs: Array) -> Array:
        """Return the class of the largest logit, of each column of classes."""
        if not self._has_many_targets:
            classes: Array = self.classes_[outputs.argmax(1)]
            return classes
        pairs = zip(self.classes_, parts_of(outputs, self._widths()), strict=True)
        return np.stack([classes[own.argmax(1)] for classes, own in pairs], axis=1)

    def _score_function(self, y: Any, decided: Array, sample_weight: Any = None) -> float:
        """Return the share of rows that are right, in all columns of classes."""
        if self._has_many_targets:
            y = np.asarray(y)
            if y.shape != decided.shape:
                raise ValueError(f"y must have the shape {decided.shape}, got {y.shape}")
            return float(np.average((y == decided).all(axis=1), weights=sample_weight))
        return float(accuracy_score(y, decided, sample_weight=sample_weight))

    def _count_outputs(self, y: Array) -> int:  # noqa: ARG002
        if self._has_many_targets:
            return sum(self._widths())
        return 1 if self._label_binarizer.y_type_ == "binary" else len(self.classes_)

    def _strata(self, y: Array) -> Array | None:
        """Return the kinds of rows of which each gives its share to the rows that are held out.

        Indicators are held out at random, as scikit-learn does.
        """
        if y.ndim == 1:
            return y
        if not self._has_many_targets:
            return None
        kinds: Array = np.unique(y, axis=0, return_inverse=True)[1].reshape(-1)
        return kinds

    def _stratifies_strictly(self) -> bool:
        """Whether a class that is too rare for a share is an error, as in scikit-learn for two."""
        return not self._has_many_targets and self._label_binarizer.y_type_ == "binary"

    def _missing_classes(self, y: Array) -> Array:
        """Return the classes that no row of one column has."""
        if y.ndim != 1:
            return np.empty(0)
        missing: Array = np.delete(self.classes_, np.unique(y))
        return missing

    def _out_activation(self) -> str:
        is_softmax = self._has_many_targets or self._label_binarizer.y_type_ == "multiclass"
        return "softmax" if is_softmax else "logistic"

    def _class_tables(
        self, y: Array, seen: tuple[Any, Array | None], incremental: bool
    ) -> list[Array] | None:
        """Return the weights of the classes of each column, by their numbers."""
        if self.class_weight is None:
            return None
        labels, counts = seen
        if counts is not None:
            y = self._encode(labels)
        if incremental and self.class_weight == "balanced":
            raise ValueError(
                "class_weight='balanced' is not supported for partial_fit, which sees a part of "
                "the rows; compute_class_weight('balanced', classes=classes, y=y) of "
                "sklearn.utils.class_weight gives the weights of all, to be passed as a dict"
            )
        if y.ndim == 1:
            if isinstance(self.class_weight, list):
                raise ValueError("class_weight must be a dict or 'balanced' for one column of y")
            return [_class_table(self.class_weight, self.classes_, y, counts)]
        columns = y.shape[1]
        if isinstance(self.class_weight, dict):
            raise ValueError(  # noqa: TRY004 - as scikit-learn does
                "For multi-output, class_weight should be a list of dicts, or the string "
                "'balanced'."
            )
        weights = [self.class_weight] * columns
        if isinstance(self.class_weight, list):
            weights = self.class_weight
        if len(weights) != columns:
            raise ValueError(
                "For multi-output, number of elements in class_weight should match number of "
                f"outputs, {columns}, got {len(weights)}."
            )
        classes = self.classes_ if self._has_many_targets else [np.array([0, 1])] * columns
        return [
            _class_table(weight, own, y[:, i].astype(np.int64), counts)
            for i, (weight, own) in enumerate(zip(weights, classes, strict=True))
        ]

    def _weigh_classes(
        self, weight: Array | None, y: Array, tables: list[Array] | None
    ) -> Array | None:
        """Multiply the weights of rows by those of their classes."""
        if tables is None:
            return weight
        numbers = y.reshape(len(y), -1).astype(np.int64, copy=False)
        by_class: Array = reduce(
            np.multiply, (table[numbers[:, i]] for i, table in enumerate(tables))
        )
        return by_class if weight is None else weight * by_class


def _numbers(y: Array, classes: Array, name: str) -> Array:
    """Return the places of labels in the classes, which are sorted."""
    found, places = np.unique(y, return_inverse=True)
    unseen = set(found.tolist()) - set(classes.tolist())
    if unseen:
        raise ValueError(
            f"{name} has classes {sorted(unseen, key=str)} that are not among {classes}"
        )
    numbers: Array = np.searchsorted(classes, found)[places.reshape(-1)]
    return numbers


def _class_table(class_weight: Any, classes: Array, y: Array, counts: Array | None) -> Array:
    """Return the weight of each class by its number; of the classes that rows have, if balanced.

    ``counts`` tells of how many rows each of y is; None: of one.
    """
    present = np.arange(len(classes)) if isinstance(class_weight, dict) else np.unique(y)
    table = np.ones(len(classes))
    if counts is not None and isinstance(class_weight, str):
        of_each = np.bincount(y, counts, len(classes))[present]
        table[present] = counts.sum() / (len(present) * of_each)
    else:
        table[present] = compute_class_weight(class_weight, classes=classes[present], y=classes[y])
    if not (np.isfinite(table) & (table >= 0)).all():
        raise ValueError(
            f"class_weight must hold numbers that are not negative, got {class_weight}"
        )
    return table
