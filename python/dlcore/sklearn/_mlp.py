"""How scikit-learn's perceptrons are fitted by native steps."""

from __future__ import annotations

import math
import warnings
from itertools import pairwise
from operator import is_
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import scipy.optimize
import scipy.sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import get_scorer
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.optimize import _check_optimize_result
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from dlcore.callbacks._averaging import one_average
from dlcore.nn import _layers as nn
from dlcore.nn._sequential import Sequential
from dlcore.sklearn._batches import Batches, FullBatch, ScaledLoss, as_rows, rows_at_once
from dlcore.sklearn._optimizers import make_optimizer
from dlcore.training._learning_rate import ScheduledLearningRates
from dlcore.training._loop import Run, run_batches, run_epochs
from dlcore.training._progress import IterationLog, Progress
from dlcore.training._step import Diverged, TrainingStep

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dlcore._common.typing import Array
    from dlcore.callbacks._averaging import ExponentialMovingAverage
    from dlcore.training._dataset import Dataset

# scikit-learn's names beside those of the layers.
ACTIVATIONS: dict[str, type[nn.Activation] | None] = {
    "identity": None,
    "logistic": nn.Sigmoid,
    **nn.ACTIVATIONS,
}
STOCHASTIC_SOLVERS = ("sgd", "adam", "adamw")

_DIVERGED = (
    "Solver produced non-finite parameter weights. The input data may contain large values and "
    "need to be preprocessed."
)


class Validation(NamedTuple):
    """Rows to validate on: X as it was given and as an array, y as it was given and as targets."""

    given: Any
    X: Any
    y: Any
    targets: Array
    weight: Array | None


class EstimatorRun(Run):
    """A fit of an estimator as its callbacks see it."""

    def __init__(self, estimator: Any, batches: Batches, log_names: list[str]) -> None:
        self.estimator = estimator
        self.model: Sequential = estimator.model_
        self.optimizer = estimator._optimizer
        self._batches = batches
        self._open(estimator.callbacks or (), log_names)

    def training_inputs(self) -> Iterator[Array]:
        """Give X of the rows that the fit trains on, some at a time: for callbacks."""
        return self._batches.inputs()

    def let_go(self) -> None:
        """Let go of the callbacks, however the fit ended: clones of the estimator copy them."""
        for callback in self.active_callbacks:
            callback.__dict__.pop("trainer", None)


class _Epochs:
    """The epochs of an estimator's fit, which ends when scikit-learn's does."""

    def __init__(
        self,
        run: EstimatorRun,
        step: TrainingStep,
        loss: ScaledLoss,
        held: Validation | None,
        incremental: bool,
    ) -> None:
        self._run, self._batches, self._step = run, run._batches, step
        self._estimator = estimator = run.estimator
        self._loss, self._held, self._incremental = loss, held, incremental
        self._log = IterationLog(run.history, Progress(0, epochs=0, steps=None), None)
        self._draws = any(isinstance(layer, nn.Dropout) for layer in estimator.model_.layers)

    def train(self, epoch: int) -> dict[str, float]:  # noqa: ARG002
        of, rates, watch = self._estimator, self._estimator._learning_rates, self._run._watch
        self._step.refresh()
        key = int(of._random_state.randint(2**31)) if self._draws else 0
        rng = of._random_state if of.shuffle else None
        for plan in self._batches.epoch(rng, key):
            squares = np.zeros(len(plan)) if of.alpha else None
            losses = run_batches(self._step, plan, rates, self._log, watch, squares=squares)
            of.loss_ = self._batches.mean_loss(plan, losses, squares, of.alpha)
        of.n_iter_ += 1
        of.t_ += self._batches.rows
        of.loss_curve_.append(of.loss_)
        if of.verbose:
            print(f"Iteration {of.n_iter_}, loss = {of.loss_:.8f}")
        return {"loss": of.loss_}

    def validate(self) -> dict[str, float]:
        logs: dict[str, float] = self._estimator._validate(self._loss, self._held)
        self._estimator._count_improvement()
        return logs

    def counts(self, epoch: int) -> dict[str, int]:  # noqa: ARG002
        return {"batches": len(self._batches), "iteration": self._log.iteration}

    def end(self, epoch: int, logs: dict[str, float]) -> None:
        pass

    def has_converged(self) -> bool:
        of = self._estimator
        # The loss of other rows than before tells nothing about convergence.
        if of._converges() and (of.early_stopping or not self._incremental):
            return True
        if not self._incremental and of.n_iter_ == of.max_iter and not self._run._is_stopping:
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({of.max_iter}) reached and "
                "the optimization hasn't converged yet.",
                ConvergenceWarning,
                stacklevel=7,
            )
        return False


class PerceptronMixin:
    """Fits and runs a network natively, under the names of scikit-learn's perceptrons.

    Comes before one of their classes, whose checks of parameters and input it uses.
    """

    def _check_solver(self: Any) -> bool:
        if self.solver not in STOCHASTIC_SOLVERS:
            raise AttributeError(
                f"partial_fit is only available for stochastic optimizers. {self.solver} is not "
                "stochastic."
            )
        return True

    # ---- the network ----

    def _sizes(self: Any) -> list[int]:
        sizes = self.hidden_layer_sizes
        sizes = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
        if np.any(np.array(sizes) <= 0):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
        return sizes

    def _layers(self: Any, units: Sequence[int]) -> list[nn.Layer]:
        """Return the layers between so many units."""
        hidden = len(units) - 2
        activations = _one_per_layer("activation", self.activation, hidden)
        dropouts = _one_per_layer("dropout", self.dropout, hidden)
        if not all(0 <= p < 1 for p in dropouts):
            raise ValueError(f"dropout must be at least 0 and less than 1, got {self.dropout}")
        unknown = [name for name in activations if name not in ACTIVATIONS]
        if unknown:
            raise ValueError(f"activation must be of {', '.join(ACTIVATIONS)}, got {unknown[0]!r}")
        layers: list[nn.Layer] = []
        for i, out in enumerate(units[1:]):
            layers.append(nn.Linear(units[i], out))
            if i == hidden:
                break
            if self.batch_norm:
                layers.append(nn.BatchNorm1d(out))
            if self.layer_norm:
                layers.append(nn.LayerNorm(out))
            activation = ACTIVATIONS[activations[i]]
            if activation is not None:
                layers.append(activation())
            if dropouts[i]:
                layers.append(nn.Dropout(float(dropouts[i])))
        return layers

    def _initialize(self: Any, layer_units: list[int], dtype: Any) -> None:
        """Draw the parameters, in scikit-learn's order, and begin to count."""
        self.n_iter_ = self.t_ = 0
        self.n_layers_ = len(layer_units)
        self.out_activation_ = self._out_activation()
        pairs = pairwise(layer_units)
        drawn = [self._init_coef(fan_in, fan_out, dtype) for fan_in, fan_out in pairs]
        self.coefs_, self.intercepts_ = map(list, zip(*drawn, strict=True))
        self.model_ = Sequential(*self._layers(layer_units), dtype=dtype, seed=0)
        self._take_coefs()
        for name in ("_optimizer", "_best_state"):  # they were of another network
            vars(self).pop(name, None)

    def _linear_layers(self: Any) -> list[nn.Linear]:
        return [layer for layer in self.model_.layers if isinstance(layer, nn.Linear)]

    def _show_coefs(self: Any) -> None:
        """Show the network's parameters as scikit-learn does: views, of shape (in, out)."""
        layers = self._linear_layers()
        self.coefs_ = [layer.weight.T for layer in layers]
        self.intercepts_ = [layer.bias for layer in layers]
        self._shown = [*self.coefs_, *self.intercepts_]

    def _take_coefs(self: Any) -> None:
        """Copy ``coefs_`` and ``intercepts_`` into the network."""
        self.model_._make_writeable()
        for layer, coef, intercept in zip(
            self._linear_layers(), self.coefs_, self.intercepts_, strict=True
        ):
            layer.weight[...] = np.asarray(coef).T
            layer.bias[...] = intercept
        self._show_coefs()

    def _network(self: Any) -> Sequential:
        """Return the network, with what a user may have put into ``coefs_``."""
        if "model_" not in self.__dict__:  # they were all that was set
            units = [len(self.coefs_[0]), *(np.shape(coef)[1] for coef in self.coefs_)]
            dtype = np.result_type(*self.coefs_)
            self.model_ = Sequential(*self._layers(units), dtype=dtype, seed=0)
            self._take_coefs()
        elif not all(map(is_, [*self.coefs_, *self.intercepts_], self._shown)):
            self._take_coefs()
        model: Sequential = self.model_
        return model

    # Views would be copied apart.
    def __getstate__(self: Any) -> dict[str, Any]:
        state: Any = super().__getstate__()
        if "model_" in state:
            self._network()
            state = {k: v for k, v in state.items() if k not in ("coefs_", "intercepts_", "_shown")}
        return state

    def __setstate__(self: Any, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[misc]
        if "model_" in state:
            self._show_coefs()

    # ---- fit ----

    def _fit(
        self: Any,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        incremental: bool = False,
        epochs: int | None = None,
        validation: tuple[Any, Any, Any] = (None, None, None),
    ) -> Any:
        sizes = self._sizes()
        self._check_combination(incremental, validation)
        first_pass = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        X, y = self._validate_input(X, y, incremental, reset=first_pass)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X)
        sample_weight = self._weigh_classes(sample_weight, y, incremental)
        held = None
        dtype = X.dtype if first_pass else self._network().dtype
        if validation[0] is not None:
            held = self._check_validation(*validation, dtype)
        self._random_state = check_random_state(self.random_state)
        self.n_outputs_ = self._count_outputs(y)
        if first_pass:
            self._initialize([X.shape[1], *sizes, self.n_outputs_], dtype)
        model = self._network()
        model._make_writeable()
        self._show_coefs()
        loss = self._scaled_loss()
        if self.solver == "lbfgs":
            self._fit_lbfgs(as_rows(X, self._targets(y, dtype), sample_weight, dtype), loss)
        else:
            if self.early_stopping and held is None:
                X, y, sample_weight, held = self._split(X, y, sample_weight, dtype)
            rows = as_rows(X, self._targets(y, dtype), sample_weight, dtype)
            with model._in_training():
                self._fit_stochastic(rows, loss, held, incremental, epochs or self.max_iter)
        if not np.isfinite(model.flat).all():
            raise ValueError(_DIVERGED)
        return self

    def _check_combination(self: Any, incremental: bool, validation: tuple[Any, ...]) -> None:
        """Refuse what makes no sense together."""
        X_val, y_val, weight_val = validation
        if (X_val is None) != (y_val is None) or (X_val is None and weight_val is not None):
            raise ValueError("X_val and y_val must be given together, sample_weight_val with them")
        if incremental and self.early_stopping and X_val is None:
            raise ValueError(
                "partial_fit does not support early_stopping=True without X_val and y_val"
            )
        if self.solver != "lbfgs":
            return
        for name in ("dropout", "batch_norm", "l1", "clip_grad_norm", "callbacks"):
            if np.any(getattr(self, name)):
                raise ValueError(f"{name} needs a stochastic solver, not solver='lbfgs'")
        if X_val is not None:
            raise ValueError("X_val needs a stochastic solver, not solver='lbfgs'")

    def _check_validation(
        self: Any, X_val: Any, y_val: Any, weight_val: Any, dtype: np.dtype[Any]
    ) -> Validation:
        X, y = validate_data(
            self,
            X_val,
            y_val,
            accept_sparse=["csr", "csc"],
            multi_output=True,
            dtype=dtype,
            reset=False,
        )
        y = self._encode(y)
        if weight_val is not None:
            weight_val = _check_sample_weight(weight_val, X)
        return Validation(X_val, X, self._labels(y), self._targets(y, dtype), weight_val)

    def _split(
        self: Any, X: Any, y: Array, weight: Array | None, dtype: np.dtype[Any]
    ) -> tuple[Any, Array, Array | None, Validation]:
        """Hold rows out, as scikit-learn does."""
        arrays = [X, y] if weight is None else [X, y, weight]
        parts = train_test_split(
            *arrays,
            random_state=self._random_state,
            test_size=self.validation_fraction,
            stratify=self._strata(y),
        )
        X, X_val, y, y_val = parts[:4]
        weight, weight_val = parts[4:] or (None, None)
        if X_val.shape[0] < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of "
                "your dataset."
            )
        targets = self._targets(y_val, dtype)
        held = Validation(None, X_val, self._labels(y_val), targets, weight_val)
        return X, y, weight, held

    def _make_optimizer(self: Any, incremental: bool) -> Any:
        before = getattr(self, "_optimizer", None)
        if incremental and before is not None:
            before.bind(self.model_, self.alpha)
            return before
        options: dict[str, Any] = {"lr": self.learning_rate_init, "l1": self.l1}
        if self.solver == "sgd":
            nesterov = self.nesterovs_momentum and self.momentum > 0
            options |= {"momentum": self.momentum, "nesterov": nesterov}
        else:
            options |= {"betas": (self.beta_1, self.beta_2), "eps": self.epsilon}
        if self.solver == "adamw":
            options["weight_decay"] = self.weight_decay
        optimizer = make_optimizer(self.solver, options, self.model_, self.alpha)
        if self.warm_start:
            optimizer.take_over(before)
        return optimizer

    def _fit_stochastic(
        self: Any,
        rows: Dataset,
        loss: ScaledLoss,
        held: Validation | None,
        incremental: bool,
        epochs: int,
    ) -> None:
        before = getattr(self, "_optimizer", None)
        self._optimizer = self._make_optimizer(incremental)
        if self._optimizer is not before:  # else the schedule goes on
            schedule = self.learning_rate if callable(self.learning_rate) else None
            self._learning_rates = ScheduledLearningRates(schedule, self._optimizer)
        n = rows.x.shape[0]
        if self.batch_size != "auto" and self.batch_size > n:
            warnings.warn(
                "Got `batch_size` less than 1 or larger than sample size. It is going to be "
                "clipped",
                stacklevel=5,
            )
        batches = Batches(loss, rows, min(200 if self.batch_size == "auto" else self.batch_size, n))
        average = one_average(list(self.callbacks or ()))
        step = TrainingStep(
            self.model_,
            loss.loss,
            self._optimizer,
            max_norm=self.clip_grad_norm,
            average=None if average is None else (average.begin(self.model_), average.decay),
        )
        log_names = ["loss", *(["val_loss"] if held else [])]
        log_names += ["val_score"] if held and self.early_stopping else []
        run = EstimatorRun(self, batches, log_names)
        self.history_ = run.history
        self._begin_records(held, incremental)
        try:
            work = _Epochs(run, step, loss, held, incremental)
            self._run_epochs(run, work, average, epochs)
        finally:
            run.let_go()

    def _run_epochs(
        self: Any,
        run: EstimatorRun,
        work: _Epochs,
        average: ExponentialMovingAverage | None,
        epochs: int,
    ) -> None:
        try:
            run_epochs(run, work, epochs, self._learning_rates, average)
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=5)
        except Diverged:
            if not self.early_stopping:
                raise ValueError(_DIVERGED) from None
            self.n_iter_ += 1
            self.loss_ = math.nan
            self.loss_curve_.append(math.nan)
            self.validation_scores_.append(math.nan)
        if self.early_stopping and (best := self._best_state) is not None:
            self.model_.load_state_dict(best)

    def _begin_records(self: Any, held: Validation | None, incremental: bool) -> None:
        """Make the lists and bests that go on from fit to fit, where they are not there yet."""
        self.n_iter_ = 0
        if not hasattr(self, "_best_state"):  # the first fit of this network, but for lbfgs
            self.loss_curve_: list[float] = []
            self.validation_loss_curve_: list[float] | None = None
            self._no_improvement_count = 0
            self._best_state: dict[str, Array] | None = None
            self.validation_scores_: list[float] | None = None
            self.best_validation_score_: float | None = None
            self.best_loss_: float | None = None
        # Early stopping may have been set, or be no more, since an earlier fit.
        if self.early_stopping and self.validation_scores_ is None:
            self.validation_scores_, self.best_validation_score_ = [], -math.inf
        elif not self.early_stopping and self.best_loss_ is None:
            self.best_loss_ = math.inf
        if held and self.validation_loss_curve_ is None:
            self.validation_loss_curve_ = []
        if incremental and self.early_stopping:  # of other rows than before, perhaps
            self._no_improvement_count = 0
            self.best_validation_score_, self._best_state = -math.inf, None

    def _validate(self: Any, loss: ScaledLoss, held: Validation | None) -> dict[str, float]:
        """Record how good the network is on rows to validate on."""
        if held is None:
            return {}
        outputs = self._run_network(held.X)
        logs = {"val_loss": loss.mean(outputs, held.targets, held.weight)}
        self.validation_loss_curve_.append(logs["val_loss"])
        if self.early_stopping:
            logs["val_score"] = self._validation_score(held, outputs, logs["val_loss"])
            self.validation_scores_.append(logs["val_score"])
            if self.verbose:
                print(f"Validation score: {logs['val_score']:f}")
        return logs

    def _validation_score(self: Any, held: Validation, outputs: Array, loss: float) -> float:
        metric = self.early_stopping_metric
        if metric == "loss":
            return -loss
        if not np.isfinite(outputs).all():
            return math.nan
        if metric is None:
            decided = self._decide(outputs)
            return float(self._score_function(held.y, decided, sample_weight=held.weight))
        scorer = get_scorer(metric) if isinstance(metric, str) else metric
        weights = {} if held.weight is None else {"sample_weight": held.weight}
        if held.given is not None:
            return float(scorer(self, held.given, held.y, **weights))
        # Rows that were held out have lost the names of their features.
        names = self.__dict__.pop("feature_names_in_", None)
        try:
            return float(scorer(self, held.X, held.y, **weights))
        finally:
            if names is not None:
                self.feature_names_in_ = names

    def _count_improvement(self: Any) -> None:
        if self.early_stopping:
            score, best = self.validation_scores_[-1], self.best_validation_score_
            is_better = not score < best + self.tol  # scikit-learn goes on with NaN
            if score > best:
                self.best_validation_score_ = score
                self._best_state = self.model_.state_dict()
        else:
            is_better = not self.loss_ > self.best_loss_ - self.tol
            self.best_loss_ = min(self.loss_, self.best_loss_)
        self._no_improvement_count = 0 if is_better else self._no_improvement_count + 1

    def _converges(self: Any) -> bool:
        """Adapt the learning rate; tell whether the fit has converged."""
        optimizer = self._optimizer
        if self.solver == "sgd" and self.learning_rate == "invscaling":
            optimizer.learning_rate = self.learning_rate_init / (self.t_ + 1) ** self.power_t
        if self._no_improvement_count <= self.n_iter_no_change:
            return False
        what = "Validation score" if self.early_stopping else "Training loss"
        message = (
            f"{what} did not improve more than tol={self.tol:f} for {self.n_iter_no_change} "
            "consecutive epochs."
        )
        if self.solver != "sgd" or self.learning_rate != "adaptive":
            message += " Stopping."
        elif optimizer.learning_rate <= 1e-6:
            message += " Learning rate too small. Stopping."
        else:
            optimizer.learning_rate /= 5.0
            self._no_improvement_count = 0
            message += f" Setting learning rate to {optimizer.learning_rate:f}"
        if self.verbose:
            print(message)
        return self._no_improvement_count > 0

    def _fit_lbfgs(self: Any, rows: Dataset, loss: ScaledLoss) -> None:
        model: Sequential = self.model_
        result = scipy.optimize.minimize(
            FullBatch(model, rows, loss, self.alpha),
            model.flat.astype(np.float64),
            method="L-BFGS-B",
            jac=True,
            options={"maxfun": self.max_fun, "maxiter": self.max_iter, "gtol": self.tol},
        )
        if self.verbose is True or self.verbose >= 1:
            print(f"L-BFGS: {result.message}, {result.nit} iterations, loss = {result.fun:.8f}")
        self.n_iter_ = _check_optimize_result("lbfgs", result, self.max_iter)
        self.loss_ = result.fun
        model.flat[...] = result.x

    def _loss_grad_lbfgs(
        self: Any, packed: Array, X: Any, y: Array, sample_weight: Array | None, *_: Any
    ) -> tuple[float, Array]:
        """Compute the loss and its gradient, the parameters packed as scikit-learn packs them."""
        model = self._network()
        shown = [*self.coefs_, *self.intercepts_]
        ends = np.cumsum([array.size for array in shown])
        for array, values in zip(shown, np.split(packed, ends[:-1]), strict=True):
            array[...] = values.reshape(array.shape)
        rows = as_rows(X, self._targets(y, model.dtype), sample_weight, model.dtype)
        loss, grad = FullBatch(model, rows, self._scaled_loss(), self.alpha)(model.flat)
        gradients = model._split(grad)
        places = [i for i, layer in enumerate(model) if isinstance(layer, nn.Linear)]
        parts = [gradients[f"{i}.weight"].T.ravel() for i in places]
        return loss, np.hstack(parts + [gradients[f"{i}.bias"] for i in places])

    # ---- inference ----

    def _forward_pass_fast(self: Any, X: Any, check_input: bool = True) -> Array:
        """Compute what scikit-learn calls the last layer's activation."""
        outputs: Array = self._activate(self._outputs(X, check_input))
        return outputs

    def _outputs(self: Any, X: Any, check_input: bool = True) -> Array:
        """Compute the outputs of the network for X, checked."""
        if not hasattr(self, "coefs_"):
            check_is_fitted(self)
        model = self._network()
        if "feature_names_in_" not in self.__dict__ and type(X) is np.ndarray and len(X):
            outputs = model._try_finite(X)  # where scikit-learn's checks have nothing to say
            if outputs is not None:
                return outputs
        if check_input:
            X = validate_data(self, X, accept_sparse=["csr", "csc"], dtype=model.dtype, reset=False)
        return self._run_network(X)

    def _run_network(self, X: Any) -> Array:
        model: Sequential = self.model_
        if not scipy.sparse.issparse(X):
            return model(np.asarray(X, model.dtype))
        X = X.tocsr()
        step = rows_at_once(X)
        parts = [
            model(X[i : i + step].toarray().astype(model.dtype, copy=False))
            for i in range(0, X.shape[0], step)
        ]
        return np.concatenate(parts)


def _one_per_layer(name: str, value: Any, layers: int) -> list[Any]:
    values = [value] * layers if isinstance(value, str) or np.ndim(value) == 0 else list(value)
    if len(values) != layers:
        raise ValueError(
            f"{name} must be one value or one for each of the {layers} hidden layers, "
            f"got {len(values)}"
        )
    return values
