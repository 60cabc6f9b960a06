"""How scikit-learn's perceptrons are fitted by native steps."""

from __future__ import annotations

import math
import warnings
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.optimize
import scipy.sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.optimize import _check_optimize_result

from dlcore._common.agreement import raised_on_all
from dlcore._common.checks import check_in, check_name, is_int, is_several
from dlcore._common.ranks import Ranks, on_all
from dlcore._native.compressed_rows import CompressedRows
from dlcore.callbacks._averaging import one_average
from dlcore.nn import _layers as nn
from dlcore.nn._sequential import Sequential
from dlcore.sklearn._batches import Batches, FullBatch, ScaledBatches, ScaledLoss, as_rows
from dlcore.sklearn._checks import ParametersMixin, check_sum, check_weights, is_plain
from dlcore.sklearn._coefs import CoefsMixin
from dlcore.sklearn._conversion import ConversionMixin
from dlcore.sklearn._early_stopping import EarlyStoppingMixin, Validation
from dlcore.sklearn._epochs import EstimatorEpochs, EstimatorRun
from dlcore.sklearn._inference import InferenceMixin
from dlcore.sklearn._members import MembersMixin
from dlcore.sklearn._optimizers import make_learning_rates, make_optimizer
from dlcore.sklearn._sharding import ShardedBatches, all_to_validate_on
from dlcore.sklearn._state import revive_optimizer
from dlcore.sklearn._streaming import DIVERGED, INTERRUPTED, Stream, can_stream
from dlcore.training._loop import run_epochs
from dlcore.training._ranks import SharedWork, check_same_rows, divide_cores
from dlcore.training._sharding import check_alike
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


class _Zeros(np.random.Generator):
    """Draws nothing but 0."""

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Any:  # noqa: ARG002
        """Return zeros, whatever the range."""
        return np.zeros(size)


class PerceptronMixin(
    ParametersMixin, MembersMixin, ConversionMixin, InferenceMixin, CoefsMixin, EarlyStoppingMixin
):
    """Fits and runs a network natively, under the names of scikit-learn's perceptrons.

    Comes before one of their classes, whose checks of parameters and input it uses.
    """

    # Whether the first fit was on sparse rows: then the weights lie as these read them.
    _reads_sparse = False

    def _check_solver(self: Any) -> bool:
        if not isinstance(self.solver, str) or self.solver not in STOCHASTIC_SOLVERS:
            raise AttributeError(
                f"partial_fit is only available for stochastic optimizers. {self.solver} is not "
                "stochastic."
            )
        return True

    # ---- the network ----

    def _sizes(self: Any) -> list[int]:
        sizes = self.hidden_layer_sizes
        sizes = list(sizes) if is_several(sizes) else [sizes]
        if not all(is_int(size) and size > 0 for size in sizes):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
        return sizes

    def _of_hidden(self: Any, layers: int) -> tuple[list[str], list[float]]:
        """Return the activation and the dropout of each of so many hidden layers."""
        given = self.activation  # no array: scikit-learn compares it with a text
        for name in given if isinstance(given, list | tuple) else [given]:
            check_name(
                "activation", name, ACTIVATIONS, otherwise=", or a list with one for each layer"
            )
        activations = _one_per_layer("activation", given, layers)
        dropouts = _one_per_layer("dropout", self.dropout, layers)
        return activations, [check_in("dropout", share, "[0, 1)") for share in dropouts]

    def _layers(self: Any, units: Sequence[int]) -> list[nn.Layer]:
        """Return the layers between so many units."""
        hidden = len(units) - 2
        activations, dropouts = self._of_hidden(hidden)
        layers: list[nn.Layer] = []
        self._built_of = self._architecture()
        for i, out in enumerate(units[1:]):
            linear = nn.Linear(units[i], out)
            linear._is_input_major = i == 0 and self._reads_sparse
            layers.append(linear)
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

    def _architecture(self: Any) -> tuple[Any, ...]:
        """Return the parameters that the layers are made of."""
        listed = [
            list(value) if is_several(value) else value for value in (self.activation, self.dropout)
        ]
        return (*listed, bool(self.batch_norm), bool(self.layer_norm))

    def _make_network(self: Any, units: list[int], dtype: Any) -> None:
        # Nothing is drawn, since scikit-learn's parameters follow: for 2^17 columns that took longer
        # than fifteen steps.
        rng: Any = _Zeros(np.random.PCG64(0))
        self.model_ = Sequential(*self._layers(units), dtype=dtype, seed=rng)

    def _initialize(self: Any, layer_units: list[int], dtype: Any) -> None:
        """Draw the parameters, in scikit-learn's order, and begin to count."""
        self.n_iter_ = self.t_ = 0
        self.n_layers_ = len(layer_units)
        self.out_activation_ = self._out_activation()
        pairs = pairwise(layer_units)
        drawn = [self._init_coef(fan_in, fan_out, dtype) for fan_in, fan_out in pairs]
        self._make_network(layer_units, dtype)
        self._take_coefs(*map(list, zip(*drawn, strict=True)))
        for name in ("_optimizer", "_least_loss"):  # they were of another network
            vars(self).pop(name, None)

    def _check_continues(self: Any, units: list[int]) -> None:
        """Make sure that the parameters are still those of a network as the one that learns on."""
        self._network()
        own = self._units()
        made = self._built_of
        pairs = [
            ("hidden_layer_sizes", own[1:-1], units[1:-1]),
            ("the number of outputs", own[-1], units[-1]),
            ("the meaning of the outputs", self.out_activation_, self._out_activation()),
            ("batch_norm", made[2], bool(self.batch_norm)),
            ("layer_norm", made[3], bool(self.layer_norm)),
        ]
        for name, before, now in pairs:
            if before != now:
                raise ValueError(
                    f"{name} is {now}, but {before} in the network that is there, which "
                    f"partial_fit and warm_start go on with: set it back, or fit anew with "
                    f"warm_start=False"
                )
        if made != self._architecture():
            self._of_hidden(len(units) - 2)

    def _renew_layers(self: Any) -> None:
        """Give the network the activations and the dropout that were set since it was made."""
        if self._built_of == self._architecture():
            return
        before = self.model_
        after = Sequential(*self._layers(self._units()), dtype=before.dtype, seed=0)
        # Layers with arrays are the same; only those between them may have come or gone.
        names = dict(zip(before._named_arrays(), after._named_arrays(), strict=True))
        after.load_state_dict({names[name]: value for name, value in before.state_dict().items()})
        after._frozen = {names[name] for name in before.frozen}
        self.model_ = after
        self._show_coefs()

    # ---- fit ----

    def _draw_key(self: Any, learned: int) -> int:
        """Draw the key of what layers draw in an epoch.

        An integer random_state gives each call the same numbers; how many rows were learned from
        before tells the calls apart.
        """
        key: int = ((learned << 31) + int(self._random_state.randint(2**31))) % 2**63
        return key

    def _end_pass(self: Any, loss: float, rows: int) -> None:
        """Record a pass over the rows."""
        self.loss_ = loss
        self.n_iter_ += 1
        self.t_ += rows
        self.loss_curve_.append(loss)

    def _fit(
        self: Any,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        incremental: bool = False,
        epochs: int | None = None,
        validation: tuple[Any, Any, Any] = (None, None, None),
    ) -> None:
        ranks = None if self.comm is None else Ranks(self.comm).others
        shards = ranks if self.sharded else None
        with self._checking():
            with raised_on_all(ranks):
                sizes = self._sizes()
                self._check_combination(incremental, validation)
                first_pass = not self._has_network() or not (self.warm_start or incremental)
                if first_pass:
                    self._of_hidden(len(sizes))
                plain = None
                if (
                    incremental
                    and not first_pass
                    and shards is None
                    and self._is_plain(X)
                    and self._targets_are_plain()
                ):
                    plain = self._plain_encoded(y, len(X))
                if plain is None:
                    X, y = self._check_input(X, y, incremental, reset=first_pass)
            seen = self._all_targets(y, shards)
            with raised_on_all(ranks):
                y = self._learn_targets(y, seen, incremental) if plain is None else plain
                units = [X.shape[1], *sizes, self._count_outputs(y)]
                if not first_pass:
                    self._check_continues(units)
                dtype = np.dtype(X.dtype) if first_pass else self._network().dtype
                self._check_precision(y, dtype, stacklevel=5 + incremental)
                if not incremental:
                    self._check_spread(y, stacklevel=5)
                targets = self._targets(y, dtype)
                sample_weight = check_weights(sample_weight, X)
                self._see_targets(targets, sample_weight, first_pass)
                tables = self._class_tables(y, seen, incremental)
                weight = self._weigh_classes(sample_weight, y, tables)
                if tables is not None:
                    check_sum(weight)
                held = None
                if validation[0] is not None:
                    held = self._check_validation(*validation, dtype, tables)
                self._random_state = check_random_state(self.random_state)
            if shards is not None:
                check_alike(
                    shards,
                    **{
                        "the sizes of the layers": units,
                        "the dtype of X": X.dtype.name,
                        "whether X is sparse": scipy.sparse.issparse(X),
                        "whether there is X_val": held is not None,
                    },
                )
                self._share_range(shards)
        if ranks is not None:
            self._random_state = ranks.of_first(self._random_state)
        self.n_outputs_ = units[-1]
        if first_pass:
            self._reads_sparse = scipy.sparse.issparse(X)
            self._initialize(units, dtype)
            self._standby.begin(self)
        else:
            self._renew_layers()
        model = self._network()
        model._make_writeable()
        self._show_coefs()
        loss = self._scaled_loss()
        rows = as_rows(X, targets, weight, dtype)
        if ranks is not None and shards is None:
            check_same_rows(ranks, rows)
        if self.solver == "lbfgs":
            self._fit_lbfgs(rows, loss)
        else:
            index = None
            if self.early_stopping and held is None:
                with raised_on_all(ranks):
                    index, out = self._hold_out(y, weight, shards)
                weight_out = None if sample_weight is None else sample_weight[out]
                held_x = X.tocsr()[out] if isinstance(rows.x, CompressedRows) else rows.x[out]
                held = self._validation(None, held_x, y[out], weight_out, dtype, tables)
            if shards is not None and held is not None:
                held = self._validation(None, *all_to_validate_on(held, shards), dtype, tables)
            with model._in_training():
                self._fit_stochastic(
                    ranks, shards, rows, index, loss, held, incremental, epochs or self.max_iter
                )
        if not np.isfinite(model.flat).all():
            raise on_all(ValueError(DIVERGED))

    def _is_plain(self: Any, X: Any) -> bool:
        """Whether scikit-learn's checks have nothing to say about more rows."""
        own = vars(self)
        is_usual = "n_outputs_" in own and "feature_names_in_" not in own
        return is_usual and is_plain(X, self._network().dtype, self.n_features_in_)

    @contextmanager
    def _checking(self) -> Iterator[None]:
        """Leave the estimator as it was if what it is given is refused."""
        before = vars(self).copy()
        try:
            yield
        except Exception:
            vars(self).clear()
            vars(self).update(before)
            raise

    def _check_precision(self, y: Array, dtype: np.dtype[Any], stacklevel: int) -> None:
        """Warn of targets that the dtype does not hold."""

    def _check_spread(self, y: Array, stacklevel: int) -> None:
        """Warn of targets so close to each other that a fit ends before it has learned."""

    def _see_targets(self, targets: Array, weight: Array | None, first_pass: bool) -> None:
        """Keep what predictions need of the targets that the network is about to learn."""

    def _share_range(self, shards: Ranks) -> None:
        """Let what was kept of them be of the targets of all ranks."""

    def _all_targets(self, y: Any, shards: Ranks | None) -> Any:  # noqa: ARG002
        """Return what must be known of the targets of all ranks, each of which has its own."""
        return None

    def _check_combination(self: Any, incremental: bool, validation: tuple[Any, ...]) -> None:
        """Refuse what makes no sense together."""
        self._check_members(incremental)
        if self.comm is None and (self.sharded or self.average_every is not None):
            raise ValueError("sharded and average_every need comm, the ranks that fit together")
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
        if self.comm is not None:
            raise ValueError("comm needs a stochastic solver, not solver='lbfgs'")
        if X_val is not None:
            raise ValueError("X_val needs a stochastic solver, not solver='lbfgs'")

    def _make_optimizer(self: Any, incremental: bool) -> Any:
        """Return the optimizer, with the options that are set now, and its learning rates."""
        options: dict[str, Any] = {"lr": self.learning_rate_init, "l1": self.l1}
        if self.solver == "sgd":
            nesterov = self.nesterovs_momentum and self.momentum > 0
            options |= {"momentum": self.momentum, "nesterov": nesterov}
        else:
            options |= {"betas": (self.beta_1, self.beta_2), "eps": self.epsilon}
        if self.solver == "adamw":
            options["weight_decay"] = self.weight_decay
        rate = (self.learning_rate, self.learning_rate_init)
        made_of = (self.solver, rate, options)
        revive_optimizer(self)
        before = getattr(self, "_optimizer", None)
        known = getattr(self, "_made_of", None)
        if incremental and before is not None and known == made_of:
            before.bind(self.model_, self._penalty())
            return before
        optimizer = make_optimizer(self.solver, options, self.model_, self._penalty())
        rates = make_learning_rates(self.learning_rate, optimizer)
        if incremental and before is not None and known is not None:
            if known[1] == rate:  # as far as a schedule or convergence has changed it
                optimizer.learning_rate = before.learning_rate
            if known[1][0] == rate[0]:
                former = self._learning_rates
                rates._epochs, rates._updates = former._epochs, former._updates
        if self.warm_start or incremental:
            optimizer.take_over(before)
        self._made_of, self._learning_rates = made_of, rates
        return optimizer

    def _penalty(self: Any) -> float:
        """Return ``alpha`` as it is in the loss of a batch.

        That has it divided by the weight of the batch, of which ranks that learn apart have a share
        each: their penalty is no stronger beside the data than that of the whole batch.
        """
        is_apart = self.comm is not None and self.average_every is not None
        penalty: float = self.alpha / (self.comm.size if is_apart else 1)
        return penalty

    @property
    def _reports(self: Any) -> bool:
        """Whether the fit says here how it goes."""
        return bool(self.verbose and (self.comm is None or self.comm.rank == 0))

    def _fit_stochastic(
        self: Any,
        ranks: Ranks | None,
        shards: Ranks | None,
        rows: Dataset,
        index: Array | None,
        loss: ScaledLoss,
        held: Validation | None,
        incremental: bool,
        epochs: int,
    ) -> None:
        stream: Stream | None = vars(self).pop("_stream", None)
        if not (incremental and stream is not None and stream.holds(self)):
            stream = None
            self._optimizer = self._make_optimizer(incremental)
        n = rows.x.shape[0] if index is None else len(index)
        if shards is not None:
            n = int(shards.sum(np.array([n]))[0])
        if self.batch_size != "auto" and self.batch_size > n:
            warnings.warn(
                "Got `batch_size` less than 1 or larger than sample size. It is going to be "
                "clipped",
                stacklevel=5 + incremental,
            )
        size = min(200 if self.batch_size == "auto" else self.batch_size, n)
        if shards is None:
            batches: ScaledBatches = Batches(loss, rows, size, index)
        else:
            batches = ShardedBatches(loss, rows, size, index, shards)
        average = one_average(list(self.callbacks or ()))
        if stream is not None:
            step = stream.step
        else:
            shared = None
            if ranks is not None:
                divide_cores(ranks)
                if shards is None and self.average_every is None:
                    shared = SharedWork.measured(ranks)
            step = TrainingStep(
                self.model_,
                loss.loss,
                self._optimizer,
                max_norm=self.clip_grad_norm,
                average=None if average is None else (average.begin(self.model_), average.decay),
                shared=shared,
            )
        log_names = ["loss", *(["val_loss"] if held else [])]
        log_names += ["val_score"] if held and self.early_stopping else []
        run = EstimatorRun(self, batches, log_names, ranks, shards)
        self.history_ = run.history
        self._begin_records(held, incremental)
        try:
            work = EstimatorEpochs(run, step, loss, held, incremental)
            self._run_epochs(run, work, average, epochs)
        finally:
            run.let_go()
        if incremental and can_stream(self):
            self._stream = Stream(self, step, loss) if stream is None else stream

    def _run_epochs(
        self: Any,
        run: EstimatorRun,
        work: EstimatorEpochs,
        average: ExponentialMovingAverage | None,
        epochs: int,
    ) -> None:
        try:
            try:
                run_epochs(run, work, epochs, self._learning_rates, average)
            except KeyboardInterrupt:
                warnings.warn(INTERRUPTED, stacklevel=6)
            except Diverged:
                if not self.early_stopping or self._best_state is None:
                    raise on_all(ValueError(DIVERGED)) from None
                self.n_iter_ += 1
                self.loss_ = math.nan
                self.loss_curve_.append(math.nan)
                self.validation_scores_.append(math.nan)
                warnings.warn(
                    f"Solver produced non-finite parameter weights in epoch {self.n_iter_}: the "
                    f"network has those of its best epoch, whose validation score is "
                    f"{self.best_validation_score_:.3g}. The input data may contain large values "
                    f"and need to be preprocessed, or the learning rate is too large.",
                    ConvergenceWarning,
                    stacklevel=6,
                )
        finally:
            self._restore_best()

    def _converges(self: Any) -> bool:
        """Adapt the learning rate; tell whether the fit has converged."""
        optimizer = self._optimizer
        if self.solver == "sgd" and self.learning_rate == "invscaling":
            optimizer.learning_rate = self.learning_rate_init / (self.t_ + 1) ** self.power_t
        if self._no_improvement_count <= self.n_iter_no_change:
            return False
        then = "Stopping."
        if self.solver == "sgd" and self.learning_rate == "adaptive":
            if optimizer.learning_rate <= 1e-6:
                then = "Learning rate too small. Stopping."
            else:
                optimizer.learning_rate /= 5.0
                self._no_improvement_count = 0
                then = f"Setting learning rate to {optimizer.learning_rate:f}"
        if self._reports:
            what = "Validation score" if self.early_stopping else "Training loss"
            print(
                f"{what} did not improve more than tol={self.tol:f} for {self.n_iter_no_change} "
                f"consecutive epochs. {then}"
            )
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
        if not math.isfinite(result.fun):  # from the beginning: there was nowhere to go
            raise ValueError(DIVERGED)
        self.n_iter_ = _check_optimize_result("lbfgs", result, self.max_iter)
        self.loss_ = result.fun
        model.flat[...] = result.x

    def _loss_grad_lbfgs(
        self: Any, packed: Array, X: Any, y: Array, *work: Any
    ) -> tuple[float, Array]:
        """Compute the loss and its gradient, the parameters packed as scikit-learn packs them.

        ``work`` is scikit-learn's: four lists and before them, from 1.7 on, ``sample_weight``.
        """
        sample_weight = work[-5] if len(work) > 4 else None
        model = self._network()
        model._make_writeable()
        layers = self._linear_layers()
        shown = [*(layer.weight.T for layer in layers), *(layer.bias for layer in layers)]
        ends = np.cumsum([array.size for array in shown])
        for array, values in zip(shown, np.split(packed, ends[:-1]), strict=True):
            array[...] = values.reshape(array.shape)
        rows = as_rows(X, self._targets(y, model.dtype), sample_weight, model.dtype)
        loss, grad = FullBatch(model, rows, self._scaled_loss(), self.alpha)(model.flat)
        gradients = model._split(grad)
        places = [i for i, layer in enumerate(model) if isinstance(layer, nn.Linear)]
        parts = [gradients[f"{i}.weight"].T.ravel() for i in places]
        return loss, np.hstack(parts + [gradients[f"{i}.bias"] for i in places])


def _one_per_layer(name: str, value: Any, layers: int) -> list[Any]:
    values = list(value) if is_several(value) else [value] * layers
    if len(values) != layers:
        raise ValueError(
            f"{name} must be one value or one for each of the {layers} hidden layers, "
            f"got {len(values)}"
        )
    return values
