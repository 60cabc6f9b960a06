"""How the estimators of tables are fitted: rows, members, the best epoch."""

from __future__ import annotations

import math
import warnings
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.base import _fit_context
from sklearn.model_selection import train_test_split
from sklearn.utils import check_consistent_length, check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import (
    _check_y,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from dlcore._native.threads import get_num_threads
from dlcore.callbacks._early_stopping import EarlyStopping
from dlcore.many._fit_many import fit_many
from dlcore.many._mean import Mean, mean_of
from dlcore.sklearn._checks import ParametersMixin, check_sum, check_weights, plain_targets
from dlcore.sklearn._early_stopping import strata
from dlcore.sklearn._frames import Table
from dlcore.sklearn._importances import ImportancesMixin
from dlcore.sklearn._preparation import Preparation
from dlcore.sklearn._pruning import best_models, with_best_members
from dlcore.sklearn._recipes import RECIPES, Plan
from dlcore.sklearn._streaming import INTERRUPTED
from dlcore.sklearn._table_encoder import TableEncoder
from dlcore.sklearn._time_limit import TimeLimit
from dlcore.training._trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dlcore._common.typing import Array

# Fewer rows are all needed to learn from.
_FEWEST_ROWS = 5

CONSTRAINTS: dict[str, Any] = {
    "recipe": [StrOptions(set(RECIPES))],
    "members": [Interval(Integral, 1, None, closed="left")],
    "prune_to": [Interval(Integral, 1, None, closed="left"), None],
    "num_embeddings": [StrOptions({"auto", "pbld", "pwl"}), None],
    "max_epochs": [Interval(Integral, 1, None, closed="left"), None],
    "time_limit": [Interval(Real, 0, None, closed="neither"), None],
    "validation_fraction": [Interval(Real, 0, 1, closed="left")],
    "categorical_features": ["array-like", None],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
}

PARAMETERS = """
    Parameters
    ----------
    recipe : {"realmlp", "tabm"}, default="realmlp"
        The network and how it is trained: that of RealMLP, which is soon trained, or that of TabM, of
        32 members that share their weights.
    members : int, default=1
        Networks that are trained at once from different initial weights and predict by their mean.
        Each has its own batches, dropout and best epoch, and the bits that it has alone.
    prune_to : int, default=None
        How many members are kept: those that are best together on the rows to validate on, chosen one
        after the other (Caruana et al., 2004). With the recipe "tabm" so many of the 32 of each
        network, which then predicts sooner. None keeps all.
    num_embeddings : {"auto", "pbld", "pwl"} or None, default="auto"
        What the network takes for a number: "pbld", 3 sums of cosines beside it; "pwl", 16 linear
        functions of its place among at most 48 bins of equally many rows, with which TabM has 2
        hidden layers in place of 3; None, the number. "auto" is "pbld" for RealMLP and None for TabM.
    max_epochs : int, default=None
        Passes over the rows; None is what the recipe has, 256 for RealMLP, whose schedule ends with
        them, and at most 500 for TabM, which stops where 16 bring nothing.
    time_limit : float, default=None
        Seconds after which the fit of all networks together ends; as many epochs are planned as fit
        into them, and fewer members where they do not last for an epoch of each. A fit within a
        limit is not the same each time.
    validation_fraction : float, default=0.2
        Share of the rows that are held out to find the best epoch, in the proportions of the
        classes; 0, or fewer than 5 rows, trains to the last epoch. Not used with ``validation_data``.
    categorical_features : array-like of int, of str or of bool, default=None
        Columns of numbers that are categories, as `TableEncoder` takes them.
    random_state : int, RandomState instance or None, default=None
        Draws the rows that are held out, the initial weights, the batches and dropout.
    verbose : int, default=0
        1 shows a progress bar, 2 a line for each epoch, or for each of several members."""

ATTRIBUTES = """
    models_ : list of dlcore.Sequential
        The networks of the members, with the parameters of their best epochs.
    encoder_ : TableEncoder
    best_epochs_ : list of int
        The epoch of each member whose parameters it has, counted from 1.
    history_ : list of dict
        What each member logged in each epoch, by name.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Where the names of all columns of X are texts."""


class BestEpoch(EarlyStopping):
    """Keeps the parameters of the best epoch, of equally good ones those of the last."""

    def _improves(self, value: float, reference: float | None) -> bool:
        return value == reference or super()._improves(value, reference)


class TabularMixin(ParametersMixin, ImportancesMixin):
    """Encodes tables, trains the members, and keeps the best epoch of each.

    A class says what its targets are: `_take_targets`, `_encode_targets`, `_network_targets`, `_task`,
    `_loss`, `_monitor`, `_end_fit`, `_averaged` and `_mean_dtype`.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = CONSTRAINTS

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self: Any, X: Any, y: Any, sample_weight: Any = None, *, validation_data: Any = None
    ) -> Any:
        """Fit the networks.

        Parameters
        ----------
        X : frame or array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Numbers, or class labels: several columns of 0 and 1 are labels of their own, several
            columns of more classes so many questions.
        sample_weight : array-like of shape (n_samples,), default=None
        validation_data : (X, y) or (X, y, sample_weight), default=None
            Rows to find the best epoch by; none of X is held out then.

        Returns
        -------
        self

        Warns
        -----
        UserWarning
            Ctrl-C has ended the fit: the networks have the parameters of their best epochs up to then.
        """
        self._check_pruning()
        encoder = TableEncoder(
            categorical_features=self.categorical_features,
            max_categories=RECIPES[self.recipe].max_categories,
            dtype="float64",
        )
        table = Table(X, self)
        encoder._learn(table)
        encoded = encoder._encode(table)
        if not encoded.shape[1]:
            raise ValueError("X has no column with a value to learn from")
        y = self._checked_y(y)
        check_consistent_length(encoded, y)
        weight = check_weights(sample_weight, encoded)
        # From here on it is fitted anew, or not at all.
        vars(self).pop("models_", None)
        validate_data(self, table.native, skip_check_array=True)
        self.encoder_ = encoder
        self._take_targets(y)
        rng = np.random.default_rng(check_random_state(self.random_state).randint(2**31 - 1))
        targets = self._encode_targets(y)
        weight = self._weighed(weight, targets)
        if validation_data is None:
            train, held = self._split(targets, weight, rng)
            validation = _rows(encoded, targets, weight, held) if len(held) else None
        else:
            train = np.arange(len(encoded)) if weight is None else np.flatnonzero(weight > 0)
            validation = self._checked_validation(validation_data)
        self._train(_rows(encoded, targets, weight, train), validation, rng)
        return self

    def _check_pruning(self: Any) -> None:
        shared = RECIPES[self.recipe].k
        count = shared if shared > 1 else self.members
        if self.prune_to is not None and self.prune_to > count:
            of = f"recipe={self.recipe!r}" if shared > 1 else f"members={self.members}"
            raise ValueError(
                f"prune_to={self.prune_to} must be at most {count}, which are the members of {of}"
            )

    def _checked_y(self: Any, y: Any, *, warn: bool = True) -> Array:
        if y is None:  # in scikit-learn's words
            raise ValueError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target y is "
                f"None."
            )
        y = _check_y(plain_targets(y), multi_output=True)
        return column_or_1d(y, warn=warn) if y.ndim == 2 and y.shape[1] == 1 else y

    def _checked_validation(self: Any, data: Any) -> tuple[Array, Array, Array | None]:
        if not isinstance(data, tuple | list) or len(data) not in (2, 3):
            raise ValueError(
                "validation_data must be (X, y) or (X, y, sample_weight), not a "
                f"{type(data).__name__}"
            )
        X, y, weight = (*data, None)[:3]
        try:
            encoded, y = self._encoded(X), self._checked_y(y)
            check_consistent_length(encoded, y)
            weight = check_weights(weight, encoded)
            targets = self._encode_targets(y)
            return encoded, targets, self._weighed(weight, targets)
        except (TypeError, ValueError) as error:
            raise type(error)(f"validation_data: {error}") from None

    def _weighed(self: Any, weight: Array | None, targets: Array) -> Array | None:
        """Return the weights of rows times those of their classes, some of which are above 0."""
        weight = self._weigh(weight, targets)
        return None if weight is None else check_sum(weight)

    def _split(
        self: Any, targets: Array, weight: Array | None, rng: np.random.Generator
    ) -> tuple[Array, Array]:
        """Draw the rows to learn from and those to validate on; rows of weight 0 are neither."""
        rows = np.arange(len(targets)) if weight is None else np.flatnonzero(weight > 0)
        held = math.ceil(self.validation_fraction * len(rows))
        if len(rows) < _FEWEST_ROWS or not 0 < held < len(rows):
            return rows, rows[:0]
        classes = self._strata(targets[rows])
        kinds = None if classes is None else strata(classes, held, len(rows) - held)
        state = int(rng.integers(2**31))
        train, held = train_test_split(rows, test_size=held, random_state=state, stratify=kinds)
        return train, held

    def _train(
        self: Any,
        train: tuple[Array, Array, Array | None],
        validation: tuple[Array, Array, Array | None] | None,
        rng: np.random.Generator,
    ) -> None:
        recipe = RECIPES[self.recipe]
        rows, targets, weight = train
        prepare = Preparation.of(
            rows,
            self.encoder_.n_numbers_,
            self.encoder_.cardinalities_,
            most_one_hot=recipe.most_one_hot,
            by_ranks=recipe.by_ranks,
        )
        self._prepared = prepare.state()
        self._begin_fit(targets, weight)
        x, y = prepare(rows), self._network_targets(targets)
        held: tuple[Any, ...] | None = None
        if validation is not None:
            held = (prepare(validation[0]), self._network_targets(validation[1]), validation[2])
        if held is None and self.prune_to is not None:
            raise ValueError(
                f"prune_to={self.prune_to} needs rows to validate on: fit with validation_fraction > 0 "
                f"or validation_data, and at least {_FEWEST_ROWS} rows"
            )
        seeds = rng.integers(2**31, size=int(self.members)).tolist()
        epochs = recipe.epochs if self.max_epochs is None else int(self.max_epochs)
        size = recipe.batch_size(len(x))
        limit = None
        if self.time_limit is not None:
            limit = TimeLimit(self.time_limit, min(len(seeds), get_num_threads()))
            count, most = limit.lasts_for(
                lambda seed, epochs: self._trainer(self._plan(x, epochs, size, seed), seed),
                (x, y, weight),
                size,
                seeds,
            )
            seeds, epochs = seeds[:count], min(epochs, most)
        plans = [self._plan(x, epochs, size, seed) for seed in seeds]
        bests = [BestEpoch(self._monitor(), patience=recipe.patience or epochs) for _ in plans]
        trainers = [
            self._trainer(plan, seed, () if held is None else (best,))
            for plan, seed, best in zip(plans, seeds, bests, strict=True)
        ]
        options: dict[str, Any] = {
            "epochs": epochs,
            "batch_size": size,
            "sample_weight": weight,
            "validation_data": held,
            "max_time": None if limit is None else limit.left_for_each(len(seeds)),
            "verbose": int(self.verbose),
        }
        try:
            if len(trainers) == 1:  # which shows each epoch
                trainers[0].fit(x, y, **options)
            else:
                fit_many(trainers, x, y, **options)
        except KeyboardInterrupt:
            if not any(trainer.history.epoch for trainer in trainers):
                raise
            warnings.warn(INTERRUPTED, stacklevel=4)
        self.models_, self.history_, self.best_epochs_ = [], [], []
        for plan, trainer, best in zip(plans, trainers, bests, strict=True):
            if not trainer.history.epoch:  # interrupted in its first one
                continue
            logs = {name: list(own) for name, own in trainer.history.items()}
            _fill_unknown(plan, x)
            self.models_.append(plan.model)
            self.history_.append(logs)
            last = len(logs["loss"])
            self.best_epochs_.append(last if best.best_epoch is None else best.best_epoch + 1)
        if self.prune_to is not None:
            self._prune(held)
        self._end_fit(None if held is None else self._logits(held[0]), validation)

    def _prune(self: Any, held: Any) -> None:
        """Keep the members that are best on these rows."""
        keep, loss = self.prune_to, self._loss()
        if RECIPES[self.recipe].k > 1:
            self.models_ = [with_best_members(own, held, loss, keep) for own in self.models_]
            return
        best = best_models(self.models_, held, loss, Mean(*self._averaged()), keep)
        for name in ("models_", "best_epochs_", "history_"):
            setattr(self, name, [getattr(self, name)[i] for i in best])

    def _plan(self: Any, x: Array, epochs: int, size: int, seed: int) -> Plan:
        updates = epochs * math.ceil(len(x) / size)
        prepare = Preparation(**self._prepared)
        recipe, kind = RECIPES[self.recipe], self.num_embeddings
        numbers = recipe.embeds_numbers if kind == "auto" else kind
        return recipe.plan(prepare, x, self._task(), updates, epochs, seed, num_embeddings=numbers)

    def _trainer(self: Any, plan: Plan, seed: int, callbacks: tuple[Any, ...] = ()) -> Trainer:
        return Trainer(
            plan.model,
            loss=self._loss(),
            optimizer=plan.optimizer,
            metrics=self._metrics(),
            callbacks=[*plan.callbacks, *callbacks],
            schedule=plan.schedule,
            seed=seed,
        )

    # ---- predictions ----

    def _prepare(self: Any, X: Any) -> tuple[Preparation, Array]:
        check_is_fitted(self, "models_")
        return Preparation(**self._prepared), self._encoded(X)

    def _encoded(self: Any, X: Any) -> Array:
        table = Table(X, self)
        validate_data(self, table.native, reset=False, skip_check_array=True)
        encoded: Array = self.encoder_._encode(table)
        return encoded

    def _outputs(self: Any, X: Any) -> Array:
        """Compute the outputs of all members together, some rows at a time."""
        prepare, encoded = self._prepare(X)
        return self._outputs_of(prepare, encoded)

    def _outputs_of(self: Any, prepare: Preparation, encoded: Array) -> Array:
        return np.concatenate([self._logits(x) for x in prepare.pieces(encoded)])

    def _logits(self: Any, x: Array) -> Array:
        """Return the outputs of all members together."""
        if len(self.models_) == 1:
            return self.models_[0](x)
        mean: Array = self._mean_of_members(model(x).astype(np.float64) for model in self.models_)
        return mean

    def _mean_of_members(self: Any, outputs: Iterable[Array]) -> Array:
        """Return the outputs that stand for the mean of the members' probabilities or values."""
        return mean_of(outputs, *self._averaged()).astype(self._mean_dtype, copy=False)

    def _score(self: Any, X: Any, y: Any, sample_weight: Any) -> float:
        prepare, encoded = self._prepare(X)
        y, weight = self._checked_to_score(encoded, y, sample_weight)
        score: float = self._score_function(
            y, self._decide(self._outputs_of(prepare, encoded)), weight
        )
        return score

    def _checked_to_score(
        self: Any, encoded: Array, y: Any, sample_weight: Any
    ) -> tuple[Array, Array | None]:
        """Return targets and weights as `fit` takes them, of as many rows as were encoded."""
        y = self._checked_y(y, warn=False)  # as scikit-learn's scores
        check_consistent_length(encoded, y)
        return y, check_weights(sample_weight, encoded)

    def prepare(self: Any, X: Any) -> Array:
        """Return what the networks are given of a table, of shape (n_samples, inputs), in float32.

        ``models_[0](prepare(X))`` are the outputs of the first network.
        """
        preparation, encoded = self._prepare(X)
        return preparation(encoded)

    def __sklearn_tags__(self: Any) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        tags.target_tags.multi_output = True
        return tags


def _rows(
    encoded: Array, targets: Array, weight: Array | None, index: Array
) -> tuple[Array, Array, Array | None]:
    return encoded[index], targets[index], None if weight is None else weight[index]


def _fill_unknown(plan: Plan, x: Array) -> None:
    """Give categories that no row has the mean of the others, weighted by their rows."""
    named = plan.model.named_parameters()
    first = x.shape[1] - len(plan.embeddings)
    for column, name in enumerate(plan.embeddings, first):
        table = named[name]
        counts = np.bincount(x[:, column].astype(np.intp), minlength=len(table))
        if not counts[0]:
            table[0] = counts @ table.astype(np.float64) / counts.sum()
