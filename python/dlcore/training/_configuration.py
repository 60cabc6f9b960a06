"""What a trainer is made of: attributes that are checked whenever they are set."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from dlcore._common.checks import (
    check_call,
    check_defines,
    check_flag,
    check_name,
    check_positive_int,
    check_real,
)
from dlcore._common.ranks import Ranks
from dlcore._common.representation import shown
from dlcore.callbacks._callback import as_callbacks
from dlcore.metrics._named import as_metrics
from dlcore.nn._losses import as_loss
from dlcore.nn._sequential import Sequential
from dlcore.optim import _optimizer
from dlcore.optim._adam import Adam, AdamW
from dlcore.optim._sgd import SGD
from dlcore.training._learning_rate import ScheduledLearningRates
from dlcore.training._loop import Run
from dlcore.training._ranks import SharedWork
from dlcore.training._step import trained_names

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from dlcore._common.protocols import Metric, Optimizer
    from dlcore.callbacks._callback import Callback
    from dlcore.nn._losses import Loss
    from dlcore.optim._schedules import Schedule

_OPTIMIZERS = {"sgd": SGD, "adam": Adam, "adamw": AdamW}

# What is set elsewhere.
_ELSEWHERE = {"lr": "optimizer.lr", "learning_rate": "optimizer.lr", "seed": "Trainer(..., seed=)"}


class Configured(Run):
    """A trainer's settings.

    What a callback sets takes effect from the next epoch on, or is a RuntimeError where a fit that
    has begun cannot follow.
    """

    _source: Any = None  # the batches of the fit under way
    _seed: int | None = None
    _metrics: dict[str, Metric]
    _given_metrics: Any = None
    _clip_grad_norm: float | None = None
    _clip_grad_value: float | None = None
    _sharded = False
    _average_every: int | None = None
    _comm: Any = None
    _work: SharedWork | None = None  # of ranks that have the same rows
    _is_alike = False  # whether all ranks have the weights and draws of rank 0
    _shuffle_rng: np.random.Generator
    _layer_rng: np.random.Generator

    def _refuse_in_fit(self, name: str) -> None:
        if self._source is not None:
            raise RuntimeError(f"Trainer: {name} cannot be changed while a fit is under way")

    @property
    def model(self) -> Sequential:
        """The model, trained in place."""
        return self._model

    @model.setter
    def model(self, model: Sequential) -> None:
        self._refuse_in_fit("model")
        if not isinstance(model, Sequential):
            raise TypeError(f"Trainer: model must be a Sequential, not {type(model).__name__}")
        model._make_writeable()
        self._model = model

    @property
    def loss(self) -> Loss:
        """What is minimized; a name or an object can be set between two fits."""
        return self._loss

    @loss.setter
    def loss(self, loss: str | Loss) -> None:
        self._refuse_in_fit("loss")
        new = as_loss(loss)
        self._metrics = _metrics_of(self._given_metrics, new)
        self._loss = new

    @property
    def metrics(self) -> Any:
        """What is logged beside the loss; can be set between two fits."""
        return self._given_metrics

    @metrics.setter
    def metrics(self, metrics: Any) -> None:
        self._refuse_in_fit("metrics")
        self._metrics = _metrics_of(metrics, self._loss)
        self._given_metrics = metrics

    @property
    def optimizer(self) -> Any:
        """What updates the parameters: one that is set, or a name, is driven by the schedule."""
        return self._optimizer

    @optimizer.setter
    def optimizer(self, optimizer: Optimizer | str) -> None:
        if self._source is not None and self._watch.is_amid_epoch:
            raise RuntimeError("Trainer: optimizer cannot be changed amid an epoch")
        self._optimizer = _as_optimizer(optimizer, self._model)
        if hasattr(self, "_learning_rates"):
            self._learning_rates.drive(self._optimizer)

    @property
    def schedule(self) -> Any:
        """What sets the learning rate of each epoch or iteration; can be set between two fits."""
        return self._learning_rates.schedule

    @schedule.setter
    def schedule(
        self, schedule: Schedule | Sequence[Schedule] | Callable[[int], float] | None
    ) -> None:
        self._refuse_in_fit("schedule")
        self._learning_rates = ScheduledLearningRates(schedule, self._optimizer)

    @property
    def callbacks(self) -> list[Callback]:
        """What is called in every fit, in this order; can be changed between two fits."""
        return self._callbacks

    @callbacks.setter
    def callbacks(self, callbacks: Any) -> None:
        self._refuse_in_fit("callbacks")
        self._callbacks = as_callbacks(callbacks)

    @property
    def accumulate(self) -> int:
        """Batches to an update."""
        return self._accumulate

    @accumulate.setter
    def accumulate(self, batches: int) -> None:
        self._accumulate = check_positive_int("accumulate", batches)

    @property
    def clip_grad_norm(self) -> float | None:
        """Largest norm of the gradients of an update."""
        return self._clip_grad_norm

    @clip_grad_norm.setter
    def clip_grad_norm(self, limit: float | None) -> None:
        self._check_clipping("clip_grad_norm", limit, self._clip_grad_value)
        self._clip_grad_norm = limit

    @property
    def clip_grad_value(self) -> float | None:
        """Largest absolute value of the elements of the gradients of an update."""
        return self._clip_grad_value

    @clip_grad_value.setter
    def clip_grad_value(self, limit: float | None) -> None:
        self._check_clipping("clip_grad_value", limit, self._clip_grad_norm)
        self._clip_grad_value = limit

    @property
    def comm(self) -> Any:
        """The communicator of the ranks that train together; can be set between two fits."""
        return self._comm

    @comm.setter
    def comm(self, comm: Any) -> None:
        self._refuse_in_fit("comm")
        self._ranks = None if comm is None else Ranks(comm)
        self._comm = comm

    @property
    def sharded(self) -> bool:
        """Whether each rank has rows of its own; can be set between two fits."""
        return self._sharded

    @sharded.setter
    def sharded(self, sharded: bool) -> None:
        self._refuse_in_fit("sharded")
        self._sharded = check_flag("sharded", sharded)

    @property
    def _others(self) -> Ranks | None:
        """The ranks that train together; None where there is one."""
        return self._ranks and self._ranks.others

    @property
    def _shards(self) -> Ranks | None:
        """The ranks that have rows of their own each; None where all have the same ones."""
        return self._others if self._sharded else None

    @property
    def _means_every(self) -> int | None:
        """Updates after which the ranks take means; None where they learn together, or there is one."""
        return self._average_every if self._others else None

    @property
    def average_every(self) -> int | None:
        """Updates after which the ranks take the mean of their weights; None: they never differ."""
        return self._average_every

    @average_every.setter
    def average_every(self, updates: int | None) -> None:
        if updates is not None:
            updates = check_positive_int("average_every", updates)
        self._average_every = updates

    def _shared_work(self) -> SharedWork | None:
        """Return how steps share the work of each batch with other ranks, if they do."""
        ranks = self._others
        if ranks is None or self.sharded or self.average_every is not None:
            return None
        if self._work is None or self._work.ranks is not ranks:
            self._work = SharedWork.measured(ranks)
        return self._work

    @staticmethod
    def _check_clipping(name: str, limit: float | None, other: float | None) -> None:
        if limit is not None and not check_real(name, limit) > 0:
            raise ValueError(f"{name} must be positive, not {limit}")
        if limit is not None and other is not None:
            raise ValueError("Trainer takes clip_grad_norm or clip_grad_value, not both")

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a setting, or an attribute of the user's own that could not be meant as one."""
        if name.startswith("_"):
            super().__setattr__(name, value)
            return
        is_known = name in Run.__annotations__ or name in self.__dict__
        if not is_known and not hasattr(type(self), name):
            settings = [own for own in vars(Configured) if not own.startswith("_")]
            close = get_close_matches(name, settings, 1, 0.75)
            if meant := _ELSEWHERE.get(name, next(iter(close), None)):
                raise AttributeError(
                    f"Trainer has no {name!r}, which would do nothing; did you mean {meant}?"
                )
        super().__setattr__(name, value)
        self.__dict__.update(_quick=None, _is_alike=False)

    def __getstate__(self) -> dict[str, Any]:
        # What is native, or of a fit under way, stays here; a copy makes its own.
        state = self.__dict__ | {
            "_step": None,
            "_quick": None,
            "_source": None,
            "_work": None,
            "_ranks": None,
            "_comm": None,
        }
        for name in ("_watch", "_metrics", "_course", "_resumed", "_resumed_record"):
            state.pop(name, None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._metrics = _metrics_of(self._given_metrics, self._loss)
        for callback in self.active_callbacks:
            if "trainer" not in vars(callback):  # which the callbacks of a copy have left behind
                callback.trainer = self

    def __repr__(self) -> str:
        options = {
            "loss": self.loss,
            "callbacks": self.callbacks or None,
            "metrics": self.metrics,
            "seed": self._seed,
            "accumulate": None if self.accumulate == 1 else self.accumulate,
            "clip_grad_norm": self.clip_grad_norm,
            "clip_grad_value": self.clip_grad_value,
            "schedule": self.schedule,
            "comm": self.comm,
            "sharded": self.sharded or None,
            "average_every": self.average_every,
        }
        given = [f"{name}={shown(own)}" for name, own in options.items() if own is not None]
        given.insert(1, f"optimizer={shown_optimizer(self.optimizer, self.model)}")
        return f"Trainer(model, {', '.join(given)})"


def optimizer_named(name: str, model: Sequential, **options: Any) -> Optimizer:
    """Make the optimizer of this name for all parameters of a model."""
    kind = _OPTIMIZERS[check_name("optimizer", name, _OPTIMIZERS)]
    made: Optimizer = kind(model.parameters(), **options)
    return made


def _metrics_of(metrics: Any, loss: Loss) -> dict[str, Metric]:
    return as_metrics(metrics, loss) | loss.target_metrics()


def _as_optimizer(optimizer: Optimizer | str, model: Sequential) -> Optimizer:
    if isinstance(optimizer, str):
        return optimizer_named(optimizer, model)
    if isinstance(optimizer, type):
        raise TypeError(
            f"optimizer is the class {optimizer.__name__}: "
            f"write optimizer={optimizer.__name__}(model.parameters())"
        )
    if not hasattr(optimizer, "step"):
        raise TypeError(
            f"optimizer must be a name or an optimizer such as Adam(model.parameters()), "
            f"not {optimizer!r}"
        )
    base = _optimizer.Optimizer
    if isinstance(optimizer, base):
        is_native = isinstance(optimizer, _optimizer.NativeOptimizer)
        if type(optimizer).step is base.step and not is_native:
            check_defines("optimizer", optimizer, base, "update(params, grads, state, options)")
    else:
        check_call("optimizer.step", optimizer.step, "grads")
        check_real("optimizer.lr", getattr(optimizer, "lr", None))
    trained_names(model, optimizer)
    return optimizer


def shown_optimizer(optimizer: Any, model: Sequential) -> str:
    """Return the call that makes an optimizer like it of ``model``, without its state."""
    groups = getattr(optimizer, "param_groups", None)
    if not groups:
        return repr(optimizer)
    names = iter(trained_names(model, optimizer))
    texts = []
    for group in groups:
        own = [next(names) for _ in group["params"]]
        is_whole = len(own) == len(model.named_parameters())
        params = f"model.parameters({'' if is_whole else ', '.join(map(repr, own))})"
        options = {name: value for name, value in group.items() if name != "params"}
        texts.append((params, options))
    kind = type(optimizer).__name__
    if len(texts) == 1:
        params, options = texts[0]
        return f"{kind}({params}, {', '.join(f'{k}={shown(v)}' for k, v in options.items())})"
    dicts = (
        "{"
        + ", ".join([f"'params': {params}", *(f"{k!r}: {shown(v)}" for k, v in own.items())])
        + "}"
        for params, own in texts
    )
    return f"{kind}([{', '.join(dicts)}])"
