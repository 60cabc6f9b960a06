"""`MLPRegressor`: scikit-learn's estimator, fitted by dlcore's native steps."""

from __future__ import annotations

import math
import warnings
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn import neural_network as base
from sklearn.base import _fit_context
from sklearn.metrics import d2_pinball_score, r2_score
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if

from dlcore._common.arrays import first_true
from dlcore.nn._losses import (
    HuberLoss,
    L1Loss,
    MSELoss,
    PoissonNLLLoss,
    QuantileLoss,
)
from dlcore.sklearn._batches import ScaledLoss
from dlcore.sklearn._checks import are_finite, check_target, finite_targets
from dlcore.sklearn._clipping import ClippingMixin
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

    from dlcore._common.ranks import Ranks
    from dlcore._common.typing import Array
    from dlcore.callbacks._callback import Callback


# The steps of a fit change outputs by about 1 or less, which must not be rounded away beside a
# target; nor must what tells the targets apart, of which a share may be.
_LARGEST_STEP, _LARGEST_SHARE = 0.5, 0.05
_DEFAULT_TOL = 1e-4
_FLOAT32_MAX = float(np.finfo(np.float32).max)


class MLPRegressor(PerceptronMixin, ClippingMixin, base.MLPRegressor):
    __doc__ = f"""Multi-layer perceptron for regression.
{COMMON}
    loss : str, default="squared_error"
        "squared_error", "absolute_error", "huber", "quantile" or "poisson".
    quantile : float or array-like of float, default=0.5
        Order of the quantile that ``loss="quantile"`` estimates; several at once are so many
        outputs of `predict`, for y of one column. They are sorted in each row, so that they never
        cross (Chernozhukov et al., 2010).
    huber_delta : float, default=1.0
        Error up to which ``loss="huber"`` is quadratic.
    clip_outputs : bool, default=False
        Whether predictions are kept between the least and the largest y of the fit, column by column
        and but for rows of weight 0. ``partial_fit`` and ``warm_start`` widen the range by what they
        bring, and raise if the fits before them had ``clip_outputs=False`` and kept none.{ADDED_PARAMETERS}
{COMMON_ATTRIBUTES}
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **base.MLPRegressor._parameter_constraints,
        **ADDED_CONSTRAINTS,
        "loss": [
            StrOptions({"squared_error", "absolute_error", "huber", "quantile", "poisson"}),
        ],
        "quantile": [Interval(Real, 0, 1, closed="both"), "array-like"],
        "huber_delta": [Interval(Real, 0, None, closed="neither")],
        "clip_outputs": ["boolean"],
    }

    def __init__(
        self,
        loss: str = "squared_error",
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
        quantile: float | Sequence[float] = 0.5,
        huber_delta: float = 1.0,
        clip_outputs: bool = False,
        dropout: float | Sequence[float] = 0.0,
        batch_norm: bool = False,
        layer_norm: bool = False,
        l1: float = 0.0,
        weight_decay: float = 0.01,
        clip_grad_norm: float | None = None,
        early_stopping_metric: Any = None,
        callbacks: Sequence[Callback] | None = None,
        members: int = 1,
        bootstrap: bool = False,
        comm: Any = None,
        sharded: bool = False,
        average_every: int | None = None,
    ) -> None:
        set_parameters(self, locals())

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> MLPRegressor:
        """Fit the network.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
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
                if self._clips:
                    self._take_range(np.vstack([own._bounds() for own in self.estimators_]))
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
        *,
        epochs: int = 1,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> MLPRegressor:
        """Go on with the fit, by ``epochs`` passes over these rows.

        Parameters
        ----------
        X, y, sample_weight, X_val, y_val, sample_weight_val
            As in `fit`. Early stopping needs ``X_val``.
        epochs : int, default=1
            Passes over the rows; early stopping may end them sooner.

        Returns
        -------
        self
        """
        held = (X_val, y_val, sample_weight_val)
        epochs = checked_epochs(epochs)
        with self._fitting(goes_on=True):
            self._fit(X, y, sample_weight, incremental=True, epochs=epochs, validation=held)
        return self

    @property
    def _has_many_quantiles(self) -> bool:
        return self.loss == "quantile" and np.ndim(self.quantile) == 1

    def _check_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Array]:  # noqa: ARG002
        return check_target(self, X, y, y_numeric=True, dtype=(np.float64, np.float32), reset=reset)

    def _learn_targets(self, y: Array, seen: None, incremental: bool) -> Array:  # noqa: ARG002
        return self._encode(y)

    def _encode(self, y: Any) -> Array:
        return finite_targets(y)

    def _targets_are_plain(self) -> bool:
        """Whether `_plain_encoded` may know the targets."""
        return self.loss != "poisson" and not self._has_many_quantiles

    def _plain_encoded(self, y: Any, rows: int) -> Array | None:
        """Return what `_encode` does for numbers that no check has anything to say about; else None."""
        if type(y) is list and len(y) == rows and all(type(value) is float for value in y):
            y = np.asarray(y)
        if type(y) is not np.ndarray or y.dtype.kind not in "fiu":
            return None
        k = self.n_outputs_
        if y.shape != ((rows,) if k == 1 else (rows, k)):
            return None
        values: Array = y.astype(np.float64)
        return values if are_finite(values) else None

    def _labels(self, y: Array) -> Array:
        return y

    def _count_outputs(self, y: Array) -> int:
        columns = 1 if y.ndim == 1 else y.shape[1]
        if not self._has_many_quantiles:
            return int(columns)
        orders = np.asarray(self.quantile, np.float64)
        if orders.size == 0 or not ((orders >= 0) & (orders <= 1)).all():
            raise ValueError(f"quantile must hold numbers from 0 to 1, got {self.quantile}")
        if columns > 1:
            raise ValueError(f"several quantiles are of one column of y, got {columns}")
        return len(np.asarray(self.quantile))

    def _strata(self, y: Array) -> None:  # noqa: ARG002
        return None

    def _out_activation(self) -> str:
        return "exp" if self.loss == "poisson" else "identity"

    def _class_tables(self, y: Array, seen: None, incremental: bool) -> None:  # noqa: ARG002
        return None

    def _weigh_classes(self, weight: Array | None, y: Array, tables: None) -> Array | None:  # noqa: ARG002
        return weight

    def _missing_classes(self, y: Array) -> Array:  # noqa: ARG002
        return np.empty(0)

    def _check_precision(self, y: Array, dtype: np.dtype[Any], stacklevel: int) -> None:
        """Warn of targets so large that a float32 network would stand still."""
        if dtype == np.float64:
            return
        low, high = float(y.min()), float(y.max())
        largest, limit = max(-low, high), _FLOAT32_MAX
        if largest > limit:
            place = ", ".join(map(str, first_true(np.abs(y) > limit) or ()))
            raise ValueError(
                f"y[{place}] is too large for float32, the dtype of X: pass X in float64, or scale y"
            )
        if self.loss == "poisson":  # whose outputs are logarithms
            return
        step = float(np.spacing(dtype.type(largest)))
        # The standard deviation of n numbers, which takes longer, is at least range / sqrt(2 n).
        least = (high - low) / math.sqrt(2 * len(y)) if y.ndim == 1 else 0.0
        if step <= _LARGEST_STEP and (high == low or step <= _LARGEST_SHARE * least):
            return
        spread = float(np.std(y, axis=0).min())
        if step > _LARGEST_STEP or (spread > 0 and step > _LARGEST_SHARE * spread):
            warnings.warn(
                f"X is float32, and so is the network, in which targets of up to {largest:.3g} are "
                f"rounded to multiples of {step:g}: small differences are lost, and the fit may "
                f"end before it has begun. Scale y, such as by TransformedTargetRegressor, or "
                f"pass X in float64",
                UserWarning,
                stacklevel=stacklevel,
            )

    def _check_spread(self, y: Array, stacklevel: int) -> None:
        """Warn of targets whose loss is below ``tol`` before there is anything learned."""
        if self.loss != "squared_error" or self.solver == "lbfgs" or len(y) == 0:
            return
        tol = min(self.tol, _DEFAULT_TOL)  # a greater one is meant to end fits early
        # The variance of n numbers, which takes longer, is at least range^2 / (2 n).
        spread = float(np.ptp(y))
        if spread == 0 or spread**2 > 4 * y.size * tol:
            return
        loss = float(y.var(axis=0).mean()) / 2
        if 0 < loss <= tol:
            warnings.warn(
                f"y varies so little that the loss of its mean, {loss:.3g}, is below tol={self.tol}: "
                f"the fit may end before it has learned anything. Scale y, such as by "
                f"TransformedTargetRegressor, or use TabularRegressor, which does so",
                UserWarning,
                stacklevel=stacklevel,
            )

    def _see_targets(self, targets: Array, weight: Array | None, first_pass: bool) -> None:
        """Take the range of the targets, or widen that of a network that learns on."""
        if self.clip_outputs and not first_pass and not self._clips:
            raise ValueError(
                "clip_outputs=True needs the range of all y that the network has learned, which fits "
                "with clip_outputs=False do not keep: set it back, or fit anew with warm_start=False"
            )
        self._clips = bool(self.clip_outputs)
        if self._clips:
            self._take_range(
                targets if weight is None else targets[weight > 0], widens=not first_pass
            )

    def _share_range(self, shards: Ranks) -> None:
        if self._clips:
            self._take_range(np.concatenate(shards.of_each((self._low, self._high))))

    def _targets(self, y: Array, dtype: np.dtype[Any]) -> Array:
        targets = y.reshape(len(y), -1).astype(dtype)
        if self.loss == "poisson" and (targets < 0).any():
            raise ValueError("loss='poisson' needs y >= 0")
        if self._has_many_quantiles:
            targets = np.broadcast_to(targets, (len(y), self._count_outputs(y)))
        return targets

    def _scaled_loss(self) -> ScaledLoss:
        # scikit-learn's gradients are those of the sum over the outputs, whatever the loss is.
        k = float(self.n_outputs_)
        if self.loss == "poisson":
            return ScaledLoss(PoissonNLLLoss(), k, k, _poisson_constant)
        if self.loss == "squared_error":
            return ScaledLoss(MSELoss(), 0.5, 0.5 * k)
        if self.loss == "huber":
            return ScaledLoss(HuberLoss(self.huber_delta), 1.0, k)
        if self.loss == "quantile":
            return ScaledLoss(QuantileLoss(self.quantile), 1.0, k)
        return ScaledLoss(L1Loss(), 1.0, k)

    def predict(self, X: Any) -> Array:
        """Predict values, of shape (n_samples,) or (n_samples, n_outputs)."""
        decided: Array = self._answer(lambda est: est._predict(X))
        return decided

    def _activate(self, outputs: Array) -> Array:
        if self.out_activation_ != "exp":
            return outputs
        with np.errstate(over="ignore"):
            return np.exp(outputs)

    def _all_finite(self, outputs: Array) -> bool:
        return bool(np.isfinite(self._activate(outputs)).all())

    def _decide(self, outputs: Array) -> Array:
        values = self._activate(outputs)
        if self._has_many_quantiles:
            places = np.argsort(np.argsort(self.quantile, kind="stable"), kind="stable")
            values = np.sort(values, axis=1)[:, places]
        values = self._clipped(values)
        return values.ravel() if values.shape[1] == 1 else values

    def _score_is_loss(self, y: Array) -> bool:
        """Whether R² is 0 for all predictions but one: it measures by the variance of y."""
        return bool((y == y[:1]).all())

    def _finite_score(self, y: Array, predicted: Array, weight: Array | None) -> float:
        """Return the score, which does not depend on a factor, where squares overflow as well."""
        score = self._score_function(y, predicted, weight)
        if math.isfinite(score):
            return score
        y, predicted = y.astype(np.float64), predicted.astype(np.float64)
        largest = max(float(np.abs(y).max()), float(np.abs(predicted).max()))
        return self._score_function(y / largest, predicted / largest, weight)

    def _score_function(self, y: Array, predicted: Array, sample_weight: Any = None) -> float:
        if not self._has_many_quantiles:
            return float(r2_score(y, predicted, sample_weight=sample_weight))
        columns = zip(
            np.asarray(self.quantile), predicted.reshape(len(predicted), -1).T, strict=True
        )
        return float(
            np.mean(
                [
                    d2_pinball_score(y, own, sample_weight=sample_weight, alpha=alpha)
                    for alpha, own in columns
                ]
            )
        )

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return R²; for several quantiles the mean of their D² of the pinball loss."""
        return self._score_function(y, self.predict(X), sample_weight)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.positive_only = self.loss == "poisson"
        return tags


def _poisson_constant(targets: Array) -> Array:
    """Return what the half Poisson deviance of each row has beside the likelihood."""
    t = targets.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = np.where(t > 0, t * np.log(t), 0.0)
    constants: Array = (entropy - t).sum(1)
    return constants
