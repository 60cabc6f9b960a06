"""Streams of rows: what a call of `partial_fit` keeps for the next one, which brings rows alone."""

from __future__ import annotations

import warnings
from functools import wraps
from operator import is_
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore.callbacks._history import History
from dlcore.nn._layers import Dropout
from dlcore.sklearn._checks import is_plain
from dlcore.training._batches import BatchPlan
from dlcore.training._dataset import Dataset
from dlcore.training._loop import go_on
from dlcore.training._step import Diverged

if TYPE_CHECKING:
    from collections.abc import Callable

    from dlcore._common.typing import Array
    from dlcore.sklearn._batches import ScaledLoss
    from dlcore.training._step import QuickStep, TrainingStep

DIVERGED = (
    "Solver produced non-finite parameter weights. The input data may contain large values and "
    "need to be preprocessed."
)
INTERRUPTED = "Training interrupted by user."

# What cannot change but by another object in its place.
_CONSTANT = (int, float, str, type(None), np.generic, np.random.RandomState)
# Beside the parameters, what the kept step was made of or what follows from it.
_ATTRIBUTES = (
    "model_",
    "n_features_in_",
    "n_outputs_",
    "classes_",
    "out_activation_",
    "feature_names_in_",
    "_label_binarizer",
    "_optimizer",
    "_learning_rates",
)


def streamed(partial_fit: Callable[..., Any]) -> Callable[..., Any]:
    """Let calls of ``partial_fit`` that bring plain rows alone go on with what the last one kept."""

    @wraps(partial_fit)
    def learn(self: Any, X: Any, y: Any, *args: Any, **options: Any) -> Any:
        stream = vars(self).get("_stream")
        if (
            stream is not None
            and not args
            and (not options or options.keys() == {"classes"})
            and stream.learn(self, X, y, options.get("classes"))
        ):
            return self
        return partial_fit(self, X, y, *args, **options)

    return learn


def can_stream(estimator: Any) -> bool:
    """Whether all that the next step depends on is in the rows and in what `Stream` looks at."""
    own = vars(estimator)
    return (
        estimator._targets_are_plain()
        and not (estimator.early_stopping or estimator.verbose or estimator.callbacks)
        and estimator.comm is None
        and isinstance(estimator.learning_rate, str)
        and getattr(estimator, "class_weight", None) is None
        and not getattr(estimator, "clip_outputs", False)
        and "feature_names_in_" not in own
        and all(_is_constant(own.get(name, own)) for name in estimator._get_param_names())
    )


def _is_constant(value: Any) -> bool:
    if type(value) in (tuple, list):
        return all(isinstance(item, _CONSTANT) for item in value)
    return isinstance(value, _CONSTANT)


class Stream:
    """The native step of an estimator and its buffers, for calls that bring plain rows alone.

    Such a call learns from one batch. What cannot fail twice was checked by the call before, and
    `holds` tells whether the estimator still is what it was then; `TrainingStep.refresh` does so for
    the network's layers and the loss, and each step reads the optimizer's options.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        It is not kept: the estimator holds the stream.
    step : TrainingStep
    loss : ScaledLoss
    """

    def __init__(self, estimator: Any, step: TrainingStep, loss: ScaledLoss) -> None:
        own = vars(estimator)
        self.step, self.loss = step, loss
        self._names = (*estimator._get_param_names(), *_ATTRIBUTES)
        self._made_of = [own.get(name) for name in self._names]
        self._lists = [
            (name, list(own[name])) for name in self._names if type(own.get(name)) is list
        ]
        self._flat: Array = estimator.model_.flat
        self._width: int = estimator.n_features_in_
        size = estimator.batch_size
        self._most_rows = 200 if size == "auto" else size
        # A batch of fewer rows than batch_size is warned of each time.
        self._least_rows = 1 if size == "auto" else size
        self._classes = None
        if hasattr(estimator, "classes_"):
            self._classes = estimator.classes_.tolist()
        self._draws = any(isinstance(layer, Dropout) for layer in estimator.model_.layers)
        self._random: np.random.RandomState | None = None
        self._quick: QuickStep | None = None
        self._make_buffers(1, estimator.alpha)

    def holds(self, estimator: Any) -> bool:
        """Whether the estimator has the parameters, the network and the optimizer that it had.

        The network has what was put into ``coefs_`` by then.
        """
        own = vars(estimator)
        return (
            all(map(is_, self._made_of, map(own.get, self._names)))
            and all(own[name] == values for name, values in self._lists)
            and estimator.model_.flat is self._flat
        )

    def learn(self, estimator: Any, X: Any, y: Any, classes: Any) -> bool:
        """Learn from rows; False, with nothing done, for a call that needs all checks."""
        if not is_plain(X, self._flat.dtype, self._width):
            return False
        rows = len(X)
        if not self._least_rows <= rows <= self._most_rows:
            return False
        if classes is not None and not self._are_known(classes):
            return False
        with estimator._fitting(goes_on=True):
            if vars(estimator).get("_stream") is not self or not self.holds(estimator):
                return False
            if not self._flat.flags.writeable:
                return False
            encoded = estimator._plain_encoded(y, rows)
            if encoded is None:
                return False
            estimator._check_precision(encoded, X.dtype, stacklevel=4)
            targets = estimator._targets(encoded, X.dtype)
            self._learn(estimator, X, targets)
        return True

    def _are_known(self, classes: Any) -> bool:
        if type(classes) is np.ndarray and classes.ndim == 1:
            classes = classes.tolist()
        return type(classes) is list and classes == self._classes

    def _learn(self, estimator: Any, x: Array, y: Array) -> None:
        """Make the one step of an epoch, and record it, as `run_epochs` does."""
        n = len(x)
        if n != self._rows:
            self._make_buffers(n, estimator.alpha)
        estimator._begin_records(None, incremental=True)
        estimator.history_ = history = History()
        order, key = self._draw(estimator, n)
        try:
            loss = None
            if self._quick is not None:
                rows = (x, y) if n == 1 else (x.take(order, 0), y.take(order, 0))
                loss = self._quick(*rows, key, self._squares)
            if loss is None:
                loss = self._run(estimator, Dataset(x, y), order, key)
        except KeyboardInterrupt:
            warnings.warn(INTERRUPTED, stacklevel=4)
            return
        except Diverged:
            raise ValueError(DIVERGED) from None
        loss *= self.loss.value_scale
        if self._squares is not None:
            loss += 0.5 * estimator.alpha * self._squares.item() / n
        estimator._end_pass(loss * n / n, n)
        estimator._count_improvement()
        estimator._learning_rates.end_updates(1, None)
        estimator._learning_rates.end_epochs()
        history.record(0, {"loss": estimator.loss_}, batches=1, iteration=1)
        estimator._converges()

    def _run(self, estimator: Any, rows: Dataset, order: Array, key: int) -> float:
        """Make the step after a close look at everything; return its loss."""
        self._quick = None
        plan = BatchPlan(rows, order, self._offsets, self._weights, self._scales, 1, key)
        with estimator.model_._in_training():
            self.step.refresh()
            self.step.run(
                plan,
                losses=self._losses,
                squares=self._squares,
                outputs=None,
                seconds=0.1,
                between=go_on,
            )
        self._quick = self.step.quick_step(self.loss.gradient_scale)
        return self._losses.item()

    def _make_buffers(self, n: int, alpha: float) -> None:
        """Make what steps of n rows have in common."""
        self._rows = n
        self._order: Array | None = None  # the one that an integer random_state gives each time
        self._offsets, self._weights = np.array([0, n]), np.array([float(n)])
        self._scales = np.array([self.loss.gradient_scale])
        self._losses, self._squares = np.zeros(1), np.zeros(1) if alpha else None

    def _draw(self, estimator: Any, n: int) -> tuple[Array, int]:
        """Draw the order of n rows and the key of what layers draw."""
        seed = estimator.random_state
        is_number = isinstance(seed, int | np.integer)
        if is_number and self._order is not None:
            return self._order, 0
        random = seed
        if is_number:
            # Making a generator takes a hundred times as long as seeding one again.
            if self._random is None:
                self._random = np.random.RandomState()
            random = self._random
            random.seed(seed)
        elif seed is None:
            random = np.random.mtrand._rand
        estimator._random_state = random
        key = estimator._draw_key(int(estimator.t_)) if self._draws else 0
        order = np.arange(n)
        if estimator.shuffle:
            random.shuffle(order)
        if not self._draws:
            self._order = order
        return order, key
