"""`MLPClassifier`: scikit-learn's estimator, fitted by dlcore's native steps."""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn import neural_network as base
from sklearn.base import _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if

from dlcore.functional._activations import sigmoid
from dlcore.many._mean import parts_of
from dlcore.nn._losses import (
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    FocalLoss,
)
from dlcore.nn._multi_target import MultiTargetLoss
from dlcore.sklearn import _probabilities as _outputs
from dlcore.sklearn._batches import ScaledLoss
from dlcore.sklearn._labels import LabelsMixin
from dlcore.sklearn._mlp import PerceptronMixin
from dlcore.sklearn._parameters import (
    ADDED_CONSTRAINTS,
    ADDED_PARAMETERS,
    COMMON,
    COMMON_ATTRIBUTES,
    checked_epochs,
    set_parameters,
)
from dlcore.sklearn._streaming import streamed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dlcore._common.typing import Array
    from dlcore.callbacks._callback import Callback


class MLPClassifier(LabelsMixin, PerceptronMixin, base.MLPClassifier):
    __doc__ = f"""Multi-layer perceptron for classification.
{COMMON}{ADDED_PARAMETERS}
    class_weight : dict, list of dict or "balanced", default=None
        Weights of the classes in the loss, as in scikit-learn's other classifiers; those of rows to
        validate on are weighted alike.
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
        members: int = 1,
        bootstrap: bool = False,
        comm: Any = None,
        sharded: bool = False,
        average_every: int | None = None,
    ) -> None:
        set_parameters(self, locals())
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
        with self._fitting(goes_on=self.warm_start):
            if self.members > 1:
                self._fit_members(X, y, sample_weight, held)
            else:
                self._fit(X, y, sample_weight, validation=held)
        return self

    @available_if(lambda est: est._check_solver())
    @streamed
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
        held = (X_val, y_val, sample_weight_val)
        epochs = checked_epochs(epochs)
        with self._fitting(goes_on=True):
            self._declare_classes(classes, y)
            self._fit(X, y, sample_weight, incremental=True, epochs=epochs, validation=held)
        return self

    # ---- the loss ----

    def _targets(self, y: Array, dtype: np.dtype[Any]) -> Array:
        """Return the targets of the loss."""
        if self._has_many_targets:
            return y.astype(dtype)
        if self._out_activation() == "softmax":
            return y if y.ndim == 1 else y.argmax(1)
        targets = y.reshape(len(y), -1).astype(dtype)
        smoothing = self.label_smoothing
        if not smoothing:
            return targets
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
            widths = self._widths()
            return ScaledLoss(MultiTargetLoss([of_classes] * len(widths), widths))
        return ScaledLoss(of_classes)

    # ---- inference ----

    def predict(self, X: Any) -> Array:
        """Predict classes: of shape (n_samples,) or, for several outputs, (n_samples, n_outputs)."""
        decided: Array = self._answer(lambda est: est._predict(X))
        return decided

    def predict_proba(self, X: Any) -> Any:
        """Estimate probabilities, of shape (n_samples, n_classes).

        Rows add up to 1 to the last digit, but for multilabel y, whose columns are independent.
        """
        return self._answer(lambda est: est._probabilities(est._outputs(X)))

    def predict_log_proba(self, X: Any) -> Any:
        """Estimate the logarithms of probabilities, finite where a probability rounds to 0."""
        return self._answer(lambda est: est._log_probabilities(est._outputs(X)))

    def decision_function(self, X: Any) -> Any:
        """Compute the logits, whose softmax or sigmoid are the probabilities.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes), or list of such
            One for two classes, above 0 where the second one is more probable, as
            `LogisticRegression` has it; else one for each class, or for each column of multilabel
            y; for several columns of classes a list of the logits of each.
        """
        return self._answer(lambda est: est._logits(est._outputs(X)))

    def _logits(self, outputs: Array) -> Any:
        if self.out_activation_ == "logistic":
            return outputs.ravel() if self.n_outputs_ == 1 else outputs
        return self._by_target(outputs, lambda own: own, lambda own: own)

    def _probabilities(self, outputs: Array) -> Any:
        return self._by_target(outputs, _outputs.class_probabilities, _outputs.binary_probabilities)

    def _log_probabilities(self, outputs: Array) -> Any:
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
        return [of_classes(own) for own in parts_of(outputs, self._widths())]

    def _activate(self, outputs: Array) -> Array:
        if self.out_activation_ == "logistic":
            return sigmoid(outputs)
        parts = self._by_target(outputs, _outputs.class_probabilities, sigmoid)
        return np.hstack(parts) if self._has_many_targets else parts

    def _decide(self, outputs: Array) -> Array:
        """Return the most probable classes."""
        if self.out_activation_ == "softmax":
            return self._most_probable(outputs)
        probabilities = sigmoid(outputs)
        decided: Array
        if self.n_outputs_ == 1:
            # As LabelBinarizer decides, in a tenth of its time; of a single class there is no other.
            decided = self.classes_.take(probabilities.ravel() > 0.5, mode="clip")
        else:
            decided = self._label_binarizer.inverse_transform(probabilities)
        return decided

    def _finite_score(self, y: Any, decided: Any, weight: Array | None) -> float:
        return self._score_function(y, decided, weight)

    def _score_is_loss(self, y: Array) -> bool:  # noqa: ARG002
        return False

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the mean accuracy; with several outputs the share of rows right in all of them."""
        return self._score_function(y, self.predict(X), sample_weight)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
