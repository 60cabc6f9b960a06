"""Rows to validate an estimator on: how they are held out, what is recorded of them, when to stop."""

from __future__ import annotations

import copy
import math
import warnings
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import scipy.sparse
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import get_scorer
from sklearn.metrics._scorer import _BaseScorer
from sklearn.model_selection import train_test_split

from dlcore.sklearn._checks import check_target, check_weights

if TYPE_CHECKING:
    from dlcore._common.ranks import Ranks
    from dlcore._common.typing import Array
    from dlcore.sklearn._batches import ScaledLoss


class Validation(NamedTuple):
    """Rows to validate on: X as it was given and checked, y encoded, as labels and as targets.

    ``weight`` is ``sample_weight`` times the weight of the class. ``score_is_loss`` tells that the
    score of these rows is the same for all predictions but one.
    """

    given: Any
    X: Any
    encoded: Array
    y: Any
    targets: Array
    weight: Array | None
    sample_weight: Array | None
    score_is_loss: bool


def strata(classes: Array, held: int, kept: int) -> Array | None:
    """Return the numbers of the strata of rows that are split into ``held`` and ``kept`` ones.

    A stratum is a class. The rarest classes are one together, as many of them as it takes for each
    stratum to have two rows, and for both parts to have a row of each. None if one is all there is.
    """
    numbers = np.unique(classes, return_inverse=True)[1]
    counts = np.bincount(numbers)
    rarest = np.argsort(counts, kind="stable")
    most = min(held, kept)
    pooled = 0
    while (
        len(counts) - pooled + (pooled > 0) > most
        or (pooled < len(counts) and counts[rarest[pooled]] < 2)
        or (pooled and counts[rarest[:pooled]].sum() < 2)
    ):
        pooled += 1
        if pooled >= len(counts):
            return None
    if pooled:
        numbers = np.where(np.isin(numbers, rarest[:pooled]), rarest[0], numbers)
    return numbers if len(np.unique(numbers)) > 1 else None


class EarlyStoppingMixin:
    """Validates an estimator after each epoch, and tells when it has learned enough."""

    # ---- the rows ----

    def _check_validation(
        self: Any,
        X_val: Any,
        y_val: Any,
        weight_val: Any,
        dtype: np.dtype[Any],
        tables: list[Array] | None,
    ) -> Validation:
        """Check rows that were given to validate on."""
        try:
            columns = getattr(self, "_has_many_targets", False)
            X, y = check_target(self, X_val, y_val, has_columns=columns, dtype=dtype, reset=False)
            encoded = self._encode(y)
            weight = check_weights(weight_val, X)
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"X_val, y_val: {error}") from None
        return self._validation(X_val, X, encoded, weight, dtype, tables)

    def _validation(
        self: Any,
        given: Any,
        X: Any,
        encoded: Array,
        weight: Array | None,
        dtype: np.dtype[Any],
        tables: list[Array] | None,
    ) -> Validation:
        with np.errstate(over="ignore"):  # an outlier that overflows has a loss all the same
            targets = self._targets(encoded, dtype)
        weighted = self._weigh_classes(weight, encoded, tables)
        y = self._labels(encoded)
        counted = y if weighted is None else y[weighted > 0]
        is_constant = self._score_is_loss(counted)
        return Validation(given, X, encoded, y, targets, weighted, weight, is_constant)

    def _hold_out(
        self: Any, y: Array, weight: Array | None, shards: Ranks | None
    ) -> tuple[Array, Array]:
        """Draw rows to learn from and rows to validate on, as scikit-learn does.

        Ranks that have rows of their own draw among those, and need no row of each class. Rows of weight 0 are neither: a sample of `BaggingClassifier` is mostly such rows.
        """
        fraction = self.validation_fraction
        rows = np.arange(len(y))
        counts = np.ones(len(y), bool) if weight is None else weight >= np.finfo(np.float64).tiny
        classes = self._strata(y)
        size: float | int = fraction
        if not counts.all():
            rows = rows[counts]
            size = max(2, math.ceil(fraction * len(rows)))
            if len(rows) <= size:
                raise ValueError(
                    f"early_stopping holds out {size} of the rows whose weight is not 0, of which "
                    f"there are {len(rows)}: none would be left to learn from"
                )
        whole = shards is None and counts.all()
        if classes is not None and whole and self._stratifies_strictly():
            classes = classes.astype(bool)[:, np.newaxis]  # which scikit-learn's errors name
        elif classes is not None:
            held_size = size if isinstance(size, int) else math.ceil(size * len(rows))
            classes = strata(classes[rows], held_size, len(rows) - held_size)
        kept, held = train_test_split(
            rows, random_state=self._random_state, test_size=size, stratify=classes
        )
        return _at_least_two(kept, held)

    # ---- what is recorded ----

    def _begin_records(self: Any, held: Validation | None, incremental: bool) -> None:
        """Make the lists that go on from fit to fit, where they are not there yet, and the bests."""
        self.n_iter_ = 0
        if "_least_loss" not in vars(self):  # the first fit of this network, but for lbfgs
            self.loss_curve_: list[float] = []
            self.validation_loss_curve_: list[float] | None = None
            self._no_improvement_count, self._least_loss = 0, math.inf
            self.validation_scores_: list[float] | None = None
            self.best_validation_score_: float | None = None
            self.best_loss_: float | None = None
        # Early stopping may have been set, or be no more, since an earlier fit.
        if self.early_stopping and self.validation_scores_ is None:
            self.validation_scores_ = []
        elif not self.early_stopping and self.best_loss_ is None:
            self.best_loss_ = math.inf
        if held and self.validation_loss_curve_ is None:
            self.validation_loss_curve_ = []
        # What other rows than these gave says nothing of these.
        self._best_state: dict[str, Array] | None = None
        if self.early_stopping:
            self.best_validation_score_ = -math.inf
        if self.early_stopping or not incremental:
            self._no_improvement_count, self._least_loss = 0, math.inf
        self._has_warned = False

    def _validate(self: Any, loss: ScaledLoss, held: Validation | None) -> dict[str, float]:
        """Record how good the network is on rows to validate on."""
        if held is None:
            return {}
        # What overflows is a value: a user may have made errors of it (numpy.seterr).
        with np.errstate(all="ignore"):
            losses, decided = self._judge(loss, held)
            logs = {"val_loss": _weighted_mean(losses, held.weight)}
            self.validation_loss_curve_.append(logs["val_loss"])
            if self.early_stopping:
                logs["val_score"] = self._validation_score(held, decided, logs["val_loss"])
        if self.early_stopping:
            self.validation_scores_.append(logs["val_score"])
            if self._reports:
                print(f"Validation score: {logs['val_score']:f}")
        return logs

    def _judge(self: Any, loss: ScaledLoss, held: Validation) -> tuple[Array, Array | None]:
        """Return the loss of each row, and what is predicted; None where that is not finite."""
        losses, decided, is_finite = [], [], True
        for part in self._parts(held.X.shape[0]):
            outputs = self._run_network(held.X[part])
            rows = loss.rows(outputs, held.targets[part])
            if not np.isfinite(rows).all():  # in float32, perhaps
                wide = np.dtype(np.float64)
                rows = loss.rows(outputs.astype(wide), self._targets(held.encoded[part], wide))
            losses.append(rows)
            is_finite = is_finite and self._all_finite(outputs)
            if is_finite:
                decided.append(self._decide(outputs))
        return joined(losses), joined(decided) if is_finite else None

    def _validation_score(self: Any, held: Validation, decided: Any, loss: float) -> float:
        metric = self.early_stopping_metric
        if metric == "loss" or (metric is None and held.score_is_loss):
            return -loss
        if decided is None:
            return math.nan
        if metric is None:
            return float(self._finite_score(*_counted(held.weight, held.y, decided)))
        scorer = get_scorer(metric) if isinstance(metric, str) else metric
        weights = {}
        if held.sample_weight is not None and _takes_weights(scorer):
            weights = {"sample_weight": held.sample_weight}
        missing = self._missing_classes(held.encoded)
        if len(missing):
            scorer = _with_labels(scorer, self.classes_)
        if held.given is not None:
            return self._call_scorer(scorer, held.given, held.y, weights, missing)
        # Rows that were held out have lost the names of their features.
        names = self.__dict__.pop("feature_names_in_", None)
        try:
            return self._call_scorer(scorer, held.X, held.y, weights, missing)
        finally:
            if names is not None:
                self.feature_names_in_ = names

    def _call_scorer(
        self: Any, scorer: Any, X: Any, y: Any, weights: dict[str, Array], missing: Array
    ) -> float:
        if not len(missing):
            return float(scorer(self, X, y, **weights))
        why = ""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UndefinedMetricWarning)
                score = float(scorer(self, X, y, **weights))
        except ValueError as error:
            score, why = math.nan, f" ({error})"
        if math.isnan(score) and not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"early_stopping_metric={self.early_stopping_metric!r} has no value where no row "
                f"to validate on is of the classes {list(missing)}{why}: it stops nothing",
                UndefinedMetricWarning,
                stacklevel=2,
            )
        return score

    def _all_finite(self, outputs: Array) -> bool:
        return bool(np.isfinite(outputs).all())

    # ---- what follows from it ----

    def _count_improvement(self: Any) -> None:
        if self.early_stopping:
            score, best = self.validation_scores_[-1], self.best_validation_score_
            is_better = not score < best + self.tol  # scikit-learn goes on with NaN
            if score > best:
                self.best_validation_score_ = score
                self._best_state = self.model_.state_dict()
        else:
            is_better = not self.loss_ > self._least_loss - self.tol
            self._least_loss = min(self.loss_, self._least_loss)
            self.best_loss_ = min(self.loss_, self.best_loss_)
        self._no_improvement_count = 0 if is_better else self._no_improvement_count + 1

    def _restore_best(self: Any) -> None:
        """Give the network the weights of its best epoch in this fit."""
        best, self._best_state = self._best_state, None
        if self.early_stopping and best is not None:
            self.model_.load_state_dict(best)


def _at_least_two(kept: Array, held: Array) -> tuple[Array, Array]:
    if len(held) < 2:
        raise ValueError(
            "The validation set is too small. Increase 'validation_fraction' or the size of "
            "your dataset."
        )
    return kept, held


def joined(parts: list[Any]) -> Any:
    """Put the rows of parts together."""
    if len(parts) == 1:
        return parts[0]
    return scipy.sparse.vstack(parts) if scipy.sparse.issparse(parts[0]) else np.concatenate(parts)


def _weighted_mean(losses: Array, weight: Array | None) -> float:
    losses, weight = _counted(weight, losses)
    return float(np.average(losses, weights=weight))


def _counted(weight: Array | None, *rows: Any) -> tuple[Any, ...]:
    """Return the rows that count, and their weight: what stands in the others is no matter."""
    if weight is None or weight.all():
        return (*rows, weight)
    return (*(own[weight > 0] for own in rows), weight[weight > 0])


def _takes_weights(scorer: Any) -> bool:
    try:
        if isinstance(scorer, _BaseScorer):
            return "sample_weight" in signature(scorer._score_func).parameters
        parameters = signature(scorer).parameters
    except (TypeError, ValueError):
        return False
    return "sample_weight" in parameters or any(
        p.kind is Parameter.VAR_KEYWORD for p in parameters.values()
    )


def _with_labels(scorer: Any, classes: Array) -> Any:
    """Tell a metric of probabilities all classes, as far as it asks and has not been told."""
    if not isinstance(scorer, _BaseScorer) or "labels" in scorer._kwargs:
        return scorer
    by_probability = np.ravel(scorer._response_method)[0] != "predict"
    if not by_probability or "labels" not in signature(scorer._score_func).parameters:
        return scorer
    told = copy.copy(scorer)
    told._kwargs = scorer._kwargs | {"labels": classes}
    return told
