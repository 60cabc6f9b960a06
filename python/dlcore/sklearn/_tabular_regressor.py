"""`TabularRegressor`: numbers from the rows of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils.validation import check_is_fitted

from dlcore._common.arrays import first_true
from dlcore.nn._losses import MSELoss
from dlcore.sklearn._checks import check_numbers, finite_targets
from dlcore.sklearn._clipping import ClippingMixin
from dlcore.sklearn._parameters import set_parameters
from dlcore.sklearn._recipes import RECIPES, Task
from dlcore.sklearn._tabular import ATTRIBUTES, CONSTRAINTS, PARAMETERS, TabularMixin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dlcore._common.typing import Array
    from dlcore.nn._losses import Loss


# In standard deviations; the sum of the squares of many is a number in float32.
_FARTHEST = 1e16


class TabularRegressor(TabularMixin, ClippingMixin, RegressorMixin, BaseEstimator):
    __doc__ = f"""A network that predicts numbers from tables, good without tuning.

    X is a frame of pandas, polars or Arrow, or an array, with numbers, texts, categories, booleans,
    dates and missing values. Preprocessing, the network, its training and the choice of the best
    epoch on rows that are held out are those of a recipe. Targets are scaled to mean 0 and variance 1
    for the network; RealMLP predicts nothing beyond those that it has seen.
{PARAMETERS}

    Attributes
    ----------
    n_outputs_ : int
        Columns of y.
    residuals_ : ndarray of shape (n_validation_rows, n_outputs)
        y less the prediction for the rows to validate on, in ascending order: what `predict_quantiles`
        is made of.{ATTRIBUTES}

    References
    ----------
    Holzmüller, Grinsztajn, Steinwart: Better by default: strong pre-tuned MLPs and boosted trees on
    tabular data, NeurIPS 2024. Gorishniy, Kotelnikov, Babenko: TabM: advancing tabular deep learning
    with parameter-efficient ensembling, ICLR 2025.

    Examples
    --------
    >>> import pandas as pd
    >>> from dlcore.sklearn import TabularRegressor
    >>> frame = pd.DataFrame({{"town": ["Oslo", "Bergen"] * 50, "area": range(100)}})
    >>> prices = 3.0 * frame["area"] + 50 * (frame["town"] == "Oslo")
    >>> regressor = TabularRegressor(max_epochs=60, random_state=0).fit(frame, prices)
    >>> regressor.score(frame, prices) > 0.95
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = dict(CONSTRAINTS)
    _mean_dtype = np.dtype(np.float64)

    def __init__(
        self,
        recipe: str = "realmlp",
        *,
        members: int = 1,
        prune_to: int | None = None,
        num_embeddings: str | None = "auto",
        max_epochs: int | None = None,
        time_limit: float | None = None,
        validation_fraction: float = 0.2,
        categorical_features: Any = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        set_parameters(self, locals())

    # ---- targets ----

    def _take_targets(self, y: Array) -> None:
        self._is_flat = y.ndim == 1
        self.n_outputs_ = 1 if self._is_flat else y.shape[1]

    def _encode_targets(self, y: Array) -> Array:
        values = finite_targets(y).reshape(len(y), -1)
        if values.shape[1] != self.n_outputs_:
            raise ValueError(f"y must have {self.n_outputs_} columns, got {values.shape[1]}")
        return values

    def _weigh(self, weight: Array | None, targets: Array) -> Array | None:  # noqa: ARG002
        return weight

    def _strata(self, targets: Array) -> None:  # noqa: ARG002
        return None

    def _begin_fit(self, targets: Array, weight: Array | None) -> None:
        """Learn what the targets are scaled by."""
        self._clips = RECIPES[self.recipe].clips_values
        self._take_range(targets)
        size = np.maximum(np.abs(self._low), np.abs(self._high))
        size = np.where(size > 0, size, 1.0)  # whose squares are numbers
        unit = targets / size
        mean = np.average(unit, axis=0, weights=weight)
        spread = np.sqrt(np.average((unit - mean) ** 2, axis=0, weights=weight))
        self._mean = mean * size
        self._spread = np.where(spread > 1e-14, spread, 1.0) * size

    def _network_targets(self, targets: Array) -> Array:
        scaled = (targets - self._mean) / self._spread
        far = first_true(np.abs(scaled) > _FARTHEST)
        if far is not None:
            raise ValueError(
                f"y: {targets[far]} lies {abs(scaled[far]):.0e} standard deviations from the mean of the "
                f"rows to train on: its square is too large for float32"
            )
        return scaled.astype(np.float32)

    def _task(self) -> Task:
        return Task(self.n_outputs_, "values", self.n_outputs_)

    def _loss(self) -> Loss:
        return MSELoss()

    def _metrics(self) -> list[str]:
        return []

    def _monitor(self) -> str:
        return "val_loss"

    def _end_fit(self, logits: Array | None, validation: Any) -> None:
        """Keep the errors of the rows to validate on."""
        self.residuals_ = np.empty((0, self.n_outputs_))
        self._residual_weights = np.empty((0, self.n_outputs_))
        if logits is None:
            return
        _, targets, weight = validation
        errors = targets - self._values(logits)
        order = errors.argsort(axis=0, kind="stable")
        self.residuals_ = np.take_along_axis(errors, order, axis=0)
        self._residual_weights = (np.ones(len(errors)) if weight is None else weight)[order]

    # ---- predictions ----

    def _averaged(self) -> tuple[str, None]:
        return "outputs", None

    def _values(self, outputs: Array) -> Array:
        return self._clipped(outputs * self._spread + self._mean)

    def _decide(self, outputs: Array) -> Array:
        values = self._values(outputs)
        return values[:, 0] if self._is_flat else values

    def predict(self, X: Any) -> Array:
        """Predict values, of shape (n_samples,) or (n_samples, n_outputs), in float64."""
        return self._decide(self._outputs(X))

    def predict_quantiles(self, X: Any, quantiles: Sequence[float] = (0.05, 0.5, 0.95)) -> Array:
        """Predict quantiles of y: the prediction and a quantile of the errors on held out rows.

        The errors are those of the rows to validate on (split conformal prediction), so that of new
        rows like these the right share is below. The distance of two quantiles is the same for all
        rows.

        Parameters
        ----------
        X : frame or array-like of shape (n_samples, n_features)
        quantiles : sequence of float
            Orders from 0 to 1.

        Returns
        -------
        ndarray of shape (n_samples, len(quantiles)) or (n_samples, n_outputs, len(quantiles))

        Raises
        ------
        TypeError
            quantiles are no numbers.
        ValueError
            An order is not in [0, 1], or the fit had no rows to validate on.

        References
        ----------
        Lei, G'Sell, Rinaldo, Tibshirani, Wasserman: Distribution-free predictive inference for
        regression, JASA 2018.
        """
        check_is_fitted(self, "models_")
        check_numbers("quantiles", quantiles)
        orders = np.asarray(quantiles, np.float64)
        if orders.ndim != 1 or not ((orders >= 0) & (orders <= 1)).all():
            raise ValueError(f"quantiles must be numbers from 0 to 1, not {quantiles!r:.100}")
        if not len(self.residuals_):
            raise ValueError(
                "predict_quantiles needs rows to validate on: fit with validation_fraction > 0 or "
                "validation_data, and at least 5 rows"
            )
        values = self._values(self._outputs(X))[:, :, np.newaxis] + self._error_quantiles(orders)
        return values[:, 0] if self._is_flat else values

    def _error_quantiles(self, orders: Array) -> Array:
        """Return the quantiles of the errors of each target, of shape (n_outputs, orders)."""
        columns = zip(self.residuals_.T, self._residual_weights.T, strict=True)
        found = []
        for errors, weight in columns:
            # The middle of the weight of each error is its order.
            middles = (np.cumsum(weight) - weight / 2) / weight.sum()
            found.append(np.interp(orders, middles, errors))
        return np.array(found)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return R²."""
        return self._score(X, y, sample_weight)

    def _score_function(self, y: Any, predicted: Array, sample_weight: Any) -> float:
        return float(r2_score(y, predicted, sample_weight=sample_weight))
