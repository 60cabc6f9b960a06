"""Averages of the weights over a fit, and the statistics of batch normalization that go with them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._common.arrays import as_array, as_matrix, as_writeable
from dlcore._common.checks import check_in, check_instance, check_int, check_positive_int
from dlcore.callbacks._callback import Callback
from dlcore.callbacks._early_stopping import EarlyStopping
from dlcore.functional._column_stats import ColumnStats, column_stats
from dlcore.nn._chains import leaves_of
from dlcore.nn._inference import Inference
from dlcore.nn._layers import BatchNorm1d
from dlcore.nn._parallel import Branches
from dlcore.nn._sequential import Sequential

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dlcore._common.protocols import Model
    from dlcore._common.ranks import Ranks
    from dlcore._common.typing import Array
    from dlcore.nn._layers import Layer

__all__ = ["ExponentialMovingAverage", "StochasticWeightAveraging", "update_batch_norm"]


class ExponentialMovingAverage(Callback):
    """Average the weights over the updates of a fit, the latest counting most.

    After each update ``average = decay * average + (1 - decay) * weights``, in the native step,
    beginning with the weights at the beginning of the fit. Between two epochs, and after the last
    one, the model has the average: validation, `EarlyStopping` and all other callbacks see it, and
    the fit ends with it. Training goes on with the weights themselves, and so does the next fit, as
    long as the model is as this one left it; else the average begins anew with what it has become.

    Parameters
    ----------
    decay : float
        In [0, 1): about 1 / (1 - decay) updates count.

    Notes
    -----
    The running statistics of `BatchNorm1d`, averages themselves, are those of the weights. A fit
    whose best average `EarlyStopping` restores leaves nothing to go on with.

    References
    ----------
    Polyak, Juditsky: Acceleration of stochastic approximation by averaging, SIAM J. Control Optim.
    30, 1992.
    """

    def __init__(self, decay: float = 0.999) -> None:
        self.decay = decay
        self._other: Array | None = None  # the average in training, the weights in between
        self._is_in_model = False
        self._left: Array | None = None  # what the model had when the last fit ended
        self._is_loaded = False  # with the model, which it belongs to

    @property
    def decay(self) -> float:
        """The decay, which can be set, from the next epoch on."""
        return self._decay

    @decay.setter
    def decay(self, value: float) -> None:
        self._decay = check_in("ExponentialMovingAverage: decay", value, "[0, 1)")

    def begin(self, model: Model) -> Array:
        """Begin with the weights of a model, or go on; return where the average goes."""
        goes_on = self._left is not None and np.array_equal(self._left, model.flat)
        if self._other is None or not (goes_on or self._is_loaded):
            self._other = model.flat.copy()
            self._is_in_model = False
        self._other = as_writeable(self._other)  # a copy may be a read-only map of a file
        return self._other

    def show(self, model: Model, *, average: bool) -> None:
        """Put the average into the model, or the weights themselves."""
        if not average:  # from here on a fit changes both
            self._is_loaded, self._left = False, None
        if average != self._is_in_model:
            assert self._other is not None
            kept = model.flat.copy()
            model.flat[...] = self._other
            self._other[...] = kept
            self._is_in_model = average

    def state_dict(self) -> dict[str, Any]:
        """Return the decay, and what the model has not: the average, or the weights themselves."""
        # Whether the model is as the last fit left it, or that of a fit under way.
        left, run = self._left, getattr(self, "trainer", None)
        goes_on = left is None or run is None or np.array_equal(left, run.model.flat)
        other = None if self._other is None or not goes_on else self._other.copy()
        return {"decay": self.decay, "other": other, "is_in_model": self._is_in_model}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned, with the model that belongs to it."""
        other = state["other"]
        if self._other is not None and other is not None:
            self._other = as_writeable(self._other)
            self._other[...] = other  # where a fit under way has it
        else:
            self._other = None if other is None else np.array(other)
        self.decay, self._is_in_model = state["decay"], state["is_in_model"]
        self._is_loaded = True

    def end(self, model: Model) -> None:
        """Remember the model as a fit leaves it, before anything else changes it."""
        self._left = model.flat.copy()


def one_average(callbacks: list[Callback]) -> ExponentialMovingAverage | None:
    """Return the moving average among callbacks, of which there can be one."""
    averages = [c for c in callbacks if isinstance(c, ExponentialMovingAverage)]
    if len(averages) > 1:
        raise ValueError("a fit takes one ExponentialMovingAverage, not several")
    return averages[0] if averages else None


class StochasticWeightAveraging(Callback):
    """End a fit with the mean of the weights at the ends of its last epochs.

    Parameters
    ----------
    start : int
        The first epoch that counts, from 0. A learning rate that does not decay to 0 from there on
        is what makes the weights differ.
    every : int
        Epochs from one that counts to the next.

    Attributes
    ----------
    averaged : int
        Epochs that went into the mean of the last fit; if none did, the weights stay.

    Notes
    -----
    The running statistics of `BatchNorm1d` do not fit averaged weights: `update_batch_norm` computes
    them anew from all rows that the fit trained on.

    References
    ----------
    Izmailov et al.: Averaging weights leads to wider optima and better generalization, UAI 2018.
    """

    _state_names = ("averaged", "_mean")

    def __init__(self, start: int, every: int = 1) -> None:
        self.start = check_int("StochasticWeightAveraging: start", start, least=0)
        self.every = check_positive_int("StochasticWeightAveraging: every", every)
        self.averaged = 0
        self._mean: Array = np.empty(0)
        self._is_broken_off = False

    def on_fit_begin(self) -> None:
        """Begin anew."""
        rivals = (EarlyStopping, ExponentialMovingAverage, StochasticWeightAveraging)
        for other in self.trainer.active_callbacks:
            sets_weights = isinstance(other, rivals) and getattr(other, "restore_best", True)
            if sets_weights and other is not self:
                raise ValueError(
                    f"StochasticWeightAveraging: {type(other).__name__} would set the weights at "
                    f"the end of the fit as well; EarlyStopping(restore_best=False) does not"
                )
        self.averaged = 0
        self._is_broken_off = False
        self._mean = np.zeros(self.trainer.model.flat.shape)

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:  # noqa: ARG002
        """Take the weights of this epoch into the mean, if it counts."""
        if epoch >= self.start and (epoch - self.start) % self.every == 0:
            self.averaged += 1
            self._mean += (self.trainer.model.flat - self._mean) / self.averaged

    def on_exception(self, exception: BaseException) -> None:  # noqa: ARG002
        """Leave the weights as they are: the rows may not be there for new running statistics."""
        self._is_broken_off = True

    def on_fit_end(self) -> None:
        """Put the mean into the model."""
        if self.averaged and not self._is_broken_off:
            model = self.trainer.model
            means = model._split(self._mean)
            for name, parameter in model.named_parameters().items():
                if name not in model.frozen:
                    parameter[...] = means[name]
            ranks = getattr(self.trainer, "_shards", None)
            _recompute(model, self.trainer.training_inputs, ranks)


def update_batch_norm(model: Model, inputs: Array | Iterable[Array]) -> None:
    """Set the running statistics of all `BatchNorm1d` layers to those of all rows.

    Layer by layer, from the first on, each with the outputs of the layers below as they are in
    inference. Layers that are frozen stay as they are.

    Parameters
    ----------
    model : Sequential
    inputs : ndarray of shape (N, in_features), or an iterable of them
        The rows; an iterable is gone through once for each layer.

    Raises
    ------
    TypeError
        If the rows have another dtype than the model.
    ValueError
        If they have another width, there are fewer than two, which have no variance, or `inputs` is
        an iterator, which ends after the first of several layers.
    """
    check_instance("update_batch_norm: model", model, Sequential)
    if hasattr(inputs, "__array__"):
        inputs = [as_array(inputs, "inputs")]
    elif isinstance(inputs, Iterator) and len(_batch_norms(model)) > 1:
        raise ValueError(
            "update_batch_norm: inputs is an iterator, but is gone through for each of the "
            f"{len(_batch_norms(model))} BatchNorm1d layers: pass an array or a list"
        )
    elif not isinstance(inputs, Iterable):
        raise TypeError(f"update_batch_norm: inputs must be rows in arrays, not {inputs!r}")
    pieces = inputs
    _recompute(model, lambda: pieces)


def _batch_norms(model: Model) -> dict[str, BatchNorm1d]:
    """Return the layers whose running statistics may change, by name."""
    return {
        name: layer
        for name, layer in leaves_of(model.layers).items()
        if isinstance(layer, BatchNorm1d) and f"{name}.running_mean" not in model.frozen
    }


def _inputs_of(name: str, layers: Mapping[str, Layer], x: Array) -> Array:
    """Compute what comes to a layer of that name, among these or in their branches."""
    names = [*layers]
    place = next(i for i, start in enumerate(names) if f"{name}.".startswith(f"{start}."))
    below = [layers[start] for start in names[:place]]
    if below:
        x = Inference(below, x.dtype, x.shape[1])(x)
    own = layers[names[place]]
    if not isinstance(own, Branches):
        return x
    name = name[len(names[place]) + 1 :]
    for begin, end, branch in own._branches(x.shape[1]):
        if any(f"{name}.".startswith(f"{start}.") for start in branch):
            return _inputs_of(name, branch, np.ascontiguousarray(x[:, begin:end]))
    raise AssertionError(name)


def _recompute(
    model: Model, inputs: Callable[[], Iterable[Array]], ranks: Ranks | None = None
) -> None:
    """Recompute the running statistics, with all rows anew for each layer; ranks have more of them."""
    layers = {str(i): layer for i, layer in enumerate(model.layers)}
    for name, layer in _batch_norms(model).items():
        stats: ColumnStats | None = None
        for piece in inputs():
            x = as_matrix(piece, "inputs", model.dtype, model.in_features)
            stats = _merged(stats, column_stats(_inputs_of(name, layers, x)))
        if ranks is not None:
            stats = ranks.merged(stats, _merged)
        if stats is None or (stats.count < 2).any():
            raise ValueError("update_batch_norm: inputs must have at least two rows")
        layer.running_mean[...] = stats.mean
        # As in training, a variance beyond the dtype is its largest number.
        unbiased = stats.var * (stats.count / (stats.count - 1))
        layer.running_var[...] = np.minimum(unbiased, np.finfo(model.dtype).max)


def _merged(stats: ColumnStats | None, following: ColumnStats | None) -> ColumnStats | None:
    """Merge statistics of rows, each of which may be of none."""
    if stats is None or following is None:
        return following if stats is None else stats
    return stats.merge(following)
