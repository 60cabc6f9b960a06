"""The labels of a classifier: one column, indicators of several, or several columns of classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils import compute_sample_weight
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import validate_data

if TYPE_CHECKING:
    from dlcore._common.typing import Array


class LabelsMixin:
    """Encodes labels for the network, and decodes them.

    Comes before scikit-learn's classifier, whose checks it uses for one column and for indicators.
    """

    classes_: Any
    class_weight: Any
    warm_start: bool
    _label_binarizer: Any

    @property
    def _has_many_targets(self) -> bool:
        return isinstance(getattr(self, "classes_", None), list)

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

    def _validate_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Array]:
        is_new = not hasattr(self, "classes_") or not (self.warm_start or incremental)
        many = np.asarray(y).ndim == 2 and type_of_target(y) == "multiclass-multioutput"
        if not many and (is_new or not self._has_many_targets):
            checked: tuple[Any, Array] = super()._validate_input(  # type: ignore[misc]
                X, y, incremental, reset
            )
            return checked
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse=["csr", "csc"],
            multi_output=True,
            dtype=(np.float64, np.float32),
            reset=reset,
        )
        if is_new:
            self.classes_ = [np.unique(column) for column in y.T]
        return X, self._encode(y)

    def _encode(self, y: Array) -> Array:
        """Return indicators of the classes, or for several targets their numbers."""
        if not self._has_many_targets:
            unseen = np.setdiff1d(y, self.classes_) if y.ndim == 1 else y[:0]
            if len(unseen):
                raise ValueError(f"y has classes {unseen} that are not among {self.classes_}")
            encoded: Array = self._label_binarizer.transform(y).astype(bool)
            return encoded
        if np.ndim(y) != 2 or y.shape[1] != len(self.classes_):
            raise ValueError(f"y must have {len(self.classes_)} columns, got the shape {y.shape}")
        numbers = np.empty(y.shape, np.int64)
        for i, classes in enumerate(self.classes_):
            places = np.minimum(np.searchsorted(classes, y[:, i]), len(classes) - 1)
            unseen = np.setdiff1d(y[:, i], classes)
            if len(unseen):
                raise ValueError(f"y[:, {i}] has classes {unseen} that are not among {classes}")
            numbers[:, i] = places
        return numbers

    def _labels(self, y: Array) -> Array:
        """Return the labels of what `_encode` gave."""
        if self._has_many_targets:
            return np.stack([c[y[:, i]] for i, c in enumerate(self.classes_)], axis=1)
        labels: Array = self._label_binarizer.inverse_transform(y)
        return labels

    def _count_outputs(self, y: Array) -> int:
        if self._has_many_targets:
            return sum(map(len, self.classes_))
        return int(y.shape[1])

    def _strata(self, y: Array) -> Array | None:
        return y if y.ndim == 2 and y.shape[1] == 1 else None

    def _out_activation(self) -> str:
        is_softmax = self._has_many_targets or self._label_binarizer.y_type_ == "multiclass"
        return "softmax" if is_softmax else "logistic"

    def _weigh_classes(self, weight: Array | None, y: Array, incremental: bool) -> Array | None:
        if self.class_weight is None:
            return weight
        if incremental and self.class_weight == "balanced":
            raise ValueError(
                "class_weight='balanced' is not supported for partial_fit, which sees a part of "
                "the rows; compute_class_weight('balanced', classes=classes, y=y) of "
                "sklearn.utils.class_weight gives the weights of all, to be passed as a dict"
            )
        by_class: Array = compute_sample_weight(self.class_weight, self._labels(y))
        return by_class if weight is None else weight * by_class
