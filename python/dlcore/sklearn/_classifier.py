"""scikit-learn's `MLPClassifier` on native steps."""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn import neural_network as base
from sklearn.base import _fit_context
from sklearn.metrics import accuracy_score
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import compute_sample_weight
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target
from sklearn.utils.validation import validate_data

from dlcore.functional._activations import sigmoid
from dlcore.nn._losses import (
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    FocalLoss,
)
from dlcore.nn._multi_target import MultiTargetLoss
from dlcore.sklearn import _probabilities as _outputs
from dlcore.sklearn._batches import ScaledLoss
from dlcore.sklearn._mlp import PerceptronMixin
from dlcore.sklearn._parameters import (
    ADDED_CONSTRAINTS,
    ADDED_PARAMETERS,
    COMMON_ATTRIBUTES,
    COMMON_PARAMETERS,
    check_epochs,
    keep_parameters,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dlcore._common.typing import Array
    from dlcore.callbacks._callback import Callback


class MLPClassifier(PerceptronMixin, base.MLPClassifier):
    __doc__ = f"""Multi-layer perceptron for classification.
{COMMON_PARAMETERS}{ADDED_PARAMETERS}
    class_weight : dict, list of dict or "balanced", default=None
        Weights of the classes in the loss, as in scikit-learn's other classifiers.
    label_smoothing : float, default=0.0
        Share of each target that is spread evenly over the classes.
    focal_gamma : float, default=0.0
        Exponent of the focal loss, ``(1 - p) ** focal_gamma`` times the log-loss (Lin et al.,
        2017).
{COMMON_ATTRIBUTES} With several columns of classes in y there is a softmax for each;
    ``classes_``, ``predict_proba`` and ``predict_log_proba`` are lists then, as those of
    scikit-learn's forests are, and ``score`` counts rows without a wrong column.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **base.MLPClassifier._parameter_constraints,
        **ADDED_CONSTRAINTS,
        "class_weight": [dict, list, StrOptions({"balanced"}), None],
        "label_smoothing": [Interval(Real, 0, 1, closed="both")],
        "focal_gamma": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: str | Sequence[str] = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str | Callable[[int], float] = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        dropout: float | Sequence[float] = 0.0,
        batch_norm: bool = False,
        layer_norm: bool = False,
        l1: float = 0.0,
        weight_decay: float = 0.01,
        clip_grad_norm: float | None = None,
        early_stopping_metric: Any = None,
        callbacks: Sequence[Callback] | None = None,
        class_weight: Any = None,
        label_smoothing: float = 0.0,
        focal_gamma: float = 0.0,
    ) -> None:
        keep_parameters(self, locals())
        self.loss = "log_loss"

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> MLPClassifier:
        """Fit the network.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Class labels; several columns of 0 and 1 are labels of their own, several columns of
            more classes so many questions.
        sample_weight : array-like of shape (n_samples,), default=None
        X_val, y_val, sample_weight_val : default=None
            Rows to validate on: ``validation_loss_curve_`` is theirs, and early stopping looks at
            them and holds out none of X.

        Returns
        -------
        self
        """
        held = (X_val, y_val, sample_weight_val)
        fitted: MLPClassifier = self._fit(X, y, sample_weight=sample_weight, validation=held)
        return fitted

    @available_if(lambda est: est._check_solver())
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        classes: Any = None,
        *,
        epochs: int = 1,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> MLPClassifier:
        """Go on with the fit, by ``epochs`` passes over these rows.

        Parameters
        ----------
        X, y, sample_weight, X_val, y_val, sample_weight_val
            As in `fit`. Early stopping needs ``X_val``.
        classes : array of shape (n_classes,), default=None
            All classes, needed in the first call; a list of arrays for several outputs.
        epochs : int, default=1
            Passes over the rows; early stopping may end them sooner, and leaves the best of them.

        Returns
        -------
        self
        """
        if isinstance(classes, list) and classes and np.ndim(classes[0]) > 0:
            self._take_classes([np.unique(own) for own in classes])
        elif not isinstance(getattr(self, "classes_", None), list) and (
            _check_partial_fit_first_call(self, classes)
        ):
            self._label_binarizer = LabelBinarizer()
            is_multilabel = type_of_target(y).startswith("multilabel")
            self._label_binarizer.fit(y if is_multilabel else classes)
        held = (X_val, y_val, sample_weight_val)
        fitted: MLPClassifier = self._fit(
            X,
            y,
            sample_weight=sample_weight,
            incremental=True,
            epochs=check_epochs(epochs),
            validation=held,
        )
        return fitted

    # ---- classes ----

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
            checked: tuple[Any, Array] = super()._validate_input(X, y, incremental, reset)
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

    # ---- the loss ----

    def _targets(self, y: Array, dtype: np.dtype[Any]) -> Array:
        """Return the targets of the loss."""
        if self._has_many_targets:
            return y.astype(dtype)
        if self._out_activation() == "softmax":
            numbers: Array = y.argmax(1)
            return numbers
        targets = y.astype(dtype)
        smoothing = self.label_smoothing
        return targets * dtype.type(1 - smoothing) + dtype.type(smoothing / 2)

    def _scaled_loss(self) -> ScaledLoss:
        gamma, smoothing = self.focal_gamma, self.label_smoothing
        if gamma and smoothing:
            raise ValueError("focal_gamma and label_smoothing are losses of their own: set one")
        if self.out_activation_ == "logistic":
            k = float(self.n_outputs_)
            loss = FocalLoss(gamma, "bce_with_logits") if gamma else BCEWithLogitsLoss()
            return ScaledLoss(loss, k, k)
        of_classes = FocalLoss(gamma) if gamma else CrossEntropyLoss(label_smoothing=smoothing)
        if self._has_many_targets:
            widths = [len(classes) for classes in self.classes_]
            return ScaledLoss(MultiTargetLoss([of_classes] * len(widths), widths))
        return ScaledLoss(of_classes)

    # ---- inference ----

    def predict(self, X: Any) -> Array:
        """Predict classes: of shape (n_samples,) or, for several outputs, (n_samples, n_outputs)."""
        return self._decide(self._outputs(X))

    def predict_proba(self, X: Any) -> Any:
        """Estimate probabilities, of shape (n_samples, n_classes).

        Rows add up to 1 to the last digit, but for multilabel y, whose columns are independent.
        """
        return self._by_target(
            self._outputs(X), _outputs.class_probabilities, _outputs.binary_probabilities
        )

    def predict_log_proba(self, X: Any) -> Any:
        """Estimate the logarithms of probabilities, finite where a probability rounds to 0."""
        outputs = self._outputs(X)
        if self.out_activation_ == "logistic" and self.n_outputs_ > 1:
            return _outputs.log_independent_probabilities(outputs)
        return self._by_target(
            outputs, _outputs.log_class_probabilities, _outputs.log_binary_probabilities
        )

    def _by_target(
        self, outputs: Array, of_classes: Callable[[Array], Array], of_two: Callable[[Array], Array]
    ) -> Any:
        if self.out_activation_ == "logistic":
            return of_two(outputs) if self.n_outputs_ == 1 else sigmoid(outputs)
        if not self._has_many_targets:
            return of_classes(outputs)
        ends = np.cumsum([len(classes) for classes in self.classes_])[:-1]
        return [of_classes(own) for own in np.split(outputs, ends, axis=1)]

    def _activate(self, outputs: Array) -> Array:
        if self.out_activation_ == "logistic":
            return sigmoid(outputs)
        parts = self._by_target(outputs, _outputs.class_probabilities, sigmoid)
        return np.hstack(parts) if self._has_many_targets else parts

    def _decide(self, outputs: Array) -> Array:
        """Return the most probable classes."""
        if self._has_many_targets:
            ends = np.cumsum([len(classes) for classes in self.classes_])[:-1]
            parts = np.split(outputs, ends, axis=1)
            pairs = zip(self.classes_, parts, strict=True)
            return np.stack([classes[own.argmax(1)] for classes, own in pairs], axis=1)
        if self.out_activation_ == "softmax":
            classes: Array = self.classes_[outputs.argmax(1)]
            return classes
        probabilities = sigmoid(outputs)
        if self.n_outputs_ == 1:
            probabilities = probabilities.ravel()
        decided: Array = self._label_binarizer.inverse_transform(probabilities)
        return decided

    def _predict(self, X: Any, check_input: bool = True) -> Array:
        return self._decide(self._outputs(X, check_input))

    def _score_function(self, y: Array, decided: Array, sample_weight: Any = None) -> float:
        if self._has_many_targets:
            right = (np.asarray(y) == decided).all(axis=1)
            return float(np.average(right, weights=sample_weight))
        return float(accuracy_score(y, decided, sample_weight=sample_weight))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the mean accuracy; with several outputs the share of rows right in all of them."""
        return self._score_function(y, self.predict(X), sample_weight)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
