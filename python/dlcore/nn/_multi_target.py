"""`MultiTargetLoss`: several targets of one network, each with a loss of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._common.arrays import as_array
from dlcore._common.checks import (
    check_instance,
    check_not_negative,
    check_positive_int,
    check_several,
)
from dlcore._common.representation import shown_call
from dlcore._native.specs import JointSpec, TargetSpec
from dlcore.metrics._accumulation import AccumulatedMetric, of_loss
from dlcore.metrics._named import as_metrics
from dlcore.nn._losses import (
    NATIVE,
    CrossEntropyLoss,
    Loss,
    as_loss,
    as_values,
    reduced,
    takes_labels,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dlcore._common.protocols import Metric
    from dlcore._common.typing import Array, Reduction

__all__ = ["MultiTargetLoss"]


class MultiTargetLoss(Loss):
    """The weighted sum of several losses, each of some columns of the outputs and a target.

    Parameters
    ----------
    losses : mapping of str to Loss or str, or sequence of them
        The loss of each target, by its name and in the order of the columns; the names in a
        sequence are "target_0", "target_1" and so on. Names cannot begin with ``"val_"``.
    widths : sequence of int
        Outputs of each.
    weights : sequence of float, optional
        Weight of each, by default 1.
    metrics : mapping of str to sequence, optional
        Metrics of targets by their names, such as ``{"rooms": ["accuracy"]}``, as `Trainer` takes
        them for one target.

    Notes
    -----
    The targets are a mapping of names to arrays, or one array of shape (N, columns) and the model's
    dtype: a column for a cross-entropy, which holds class indices, and as many as outputs for
    another loss. NaN, and for class indices ``ignore_index``, is a missing target; a row has a
    target of several columns if it has all of them.

    ``loss = sum over t of weight_t * mean over the rows that have t of loss_t``, where ``loss_t`` of
    a row is averaged over its own outputs. The mean is that of the loss alone: weighted, if it has
    weights of classes. Mini-batches take it over the rows of an update, and a target that none of
    them has counts 0. A fit logs "<name>_loss" and "<name>_<metric>" of each target beside the
    total, NaN if no row has it.

    References
    ----------
    Caruana: Multitask learning, Machine Learning 28, 1997.
    """

    mixable = False

    def __init__(
        self,
        losses: Mapping[str, Any] | Sequence[Any],
        widths: Sequence[int],
        weights: Sequence[float] | None = None,
        *,
        metrics: Mapping[str, Sequence[Any]] | None = None,
    ) -> None:
        kind = "MultiTargetLoss"
        if not isinstance(losses, Mapping):
            several = check_several(f"{kind}: losses", losses, "several")
            losses = {f"target_{i}": loss for i, loss in enumerate(several)}
        names: list[Any] = list(losses)
        self.names: list[str] = names
        self.losses = [as_loss(loss, f"{kind}: losses[{name!r}]") for name, loss in losses.items()]
        self.widths = [
            check_positive_int(f"{kind}: each of widths", width)
            for width in check_several(
                f"{kind}: widths", widths, "a number of columns for each loss"
            )
        ]
        given = [1.0] * len(losses) if weights is None else weights
        self.weights = [
            check_not_negative(f"{kind}: each of weights", weight)
            for weight in check_several(f"{kind}: weights", given, "a number for each loss")
        ]
        if not len(self.losses) == len(self.widths) == len(self.weights) > 0:
            raise ValueError("MultiTargetLoss: losses, widths and weights must be equally many")
        for name in names:
            if not isinstance(name, str) or f"{name}_".startswith("val_"):
                raise ValueError(
                    f"MultiTargetLoss: losses names {name!r}, but a name must be a string and not "
                    f"'val', which the logs of the validation begin with"
                )
        if not all(
            type(loss) in NATIVE and not isinstance(loss, MultiTargetLoss) for loss in self.losses
        ):
            raise TypeError("MultiTargetLoss: losses must be those of dlcore, of one target each")
        if metrics is not None:
            check_instance(f"{kind}: metrics", metrics, Mapping)
        unknown = [name for name in metrics or () if name not in self.names]
        if unknown:
            raise ValueError(
                f"MultiTargetLoss: metrics names {unknown}, the targets are {', '.join(self.names)}"
            )
        self._metrics = {
            name: as_metrics((metrics or {}).get(name), loss)
            for name, loss in zip(self.names, self.losses, strict=True)
        }

    def __repr__(self) -> str:
        losses = dict(zip(self.names, self.losses, strict=True))
        given = {name: list(own) for name, own in self._metrics.items() if own}
        weights = None if self.weights == [1.0] * len(losses) else self.weights
        return shown_call(self, {"losses": losses, "weights": weights, "metrics": given or None})

    @property
    def target_widths(self) -> list[int]:
        """Columns of the targets that each loss takes."""
        pairs = zip(self.losses, self.widths, strict=True)
        return [1 if takes_labels(loss) else width for loss, width in pairs]

    def check(self, y: Any, name: str, width: int, dtype: np.dtype[Any]) -> Array:
        """Targets of the model's dtype in one array, NaN where one is missing, else an error."""
        if sum(self.widths) != width:
            raise ValueError(
                f"MultiTargetLoss: widths add up to {sum(self.widths)}, "
                f"but the model has {width} outputs"
            )
        targets = self._side_by_side(y, name, dtype)
        for t, (loss, of_target, _) in enumerate(self._parts()):
            own = targets[:, of_target]
            where = f"{name}[{self.names[t]!r}]"
            if takes_labels(loss):
                own[own == _ignored(loss)] = np.nan
                whole = np.isnan(own) | ((own == np.floor(own)) & (np.abs(own) < 2**53))
                if not whole.all():
                    row = int(whole.argmin())
                    raise ValueError(f"{where}[{row}] is {own[row, 0]}; it must hold class indices")
                loss.check(_decoded(loss, own), where, self.widths[t], dtype)
            else:
                loss.check(own[_there(own)], where, self.widths[t], dtype)
        there = self.present(targets)
        if len(targets) and there is not None and not there.any():
            raise ValueError(f"{name} has no target that counts, in any row")
        return targets

    def _side_by_side(self, y: Any, name: str, dtype: np.dtype[Any]) -> Array:
        """Copy targets into one array."""
        if isinstance(y, Mapping):
            return self._join(y, name, dtype)
        columns = sum(self.target_widths)
        shape = as_array(y, name).shape
        if shape[1:] != (columns,) and not (columns == len(shape) == 1):
            raise ValueError(
                f"{name} must be a mapping of names to targets or have shape (N, {columns}), "
                f"not {shape}"
            )
        return np.array(as_values(y, name, columns, dtype))

    def _join(self, y: Mapping[str, Any], name: str, dtype: np.dtype[Any]) -> Array:
        """Put targets by name side by side."""
        if y.keys() != set(self.names):
            raise ValueError(
                f"{name} must have the targets {', '.join(self.names)}, not {', '.join(map(str, y))}"
            )
        columns = []
        for own, loss, width in zip(self.names, self.losses, self.target_widths, strict=True):
            where = f"{name}[{own!r}]"
            values = as_array(y[own], where)
            if takes_labels(loss):
                if values.ndim != 1 and values.shape[1:] != (1,):
                    raise ValueError(
                        f"{where} must hold class indices of shape (N,), not {values.shape}"
                    )
                if values.dtype.kind in "iu":
                    values = values.astype(dtype)  # exact, for fewer classes than 2 ** 24
            columns.append(as_values(values, where, width, dtype))
        rows = [len(values) for values in columns]
        if len(set(rows)) > 1:
            raise ValueError(f"{name}: the targets must have equally many rows, not {rows}")
        return np.concatenate(columns, axis=1)

    def present(self, y: Array) -> Array | None:
        """Return what each row adds to the denominator of each target's mean, 0 where it is missing.

        Of shape (N, targets) and float64; None if 1 each.
        """
        parts = []
        for loss, of_target, _ in self._parts():
            own = y[:, of_target]
            weights = loss.row_weights(_decoded(loss, own))
            parts.append(_there(own) * (1.0 if weights is None else weights))
        there: Array = np.stack(parts, axis=1)
        return None if (there == 1).all() else there

    def target_metrics(self) -> dict[str, Metric]:
        """Return the loss and the metrics of each target."""
        result: dict[str, Metric] = {}
        for t, name in enumerate(self.names):
            own = {"loss": of_loss(self.losses[t])} | self._metrics[name]
            for of, metric in own.items():
                result[f"{name}_{of}"] = self._of_target(t, metric)
        return result

    def _of_target(self, t: int, metric: AccumulatedMetric) -> AccumulatedMetric:
        """Apply a metric to one target, over the rows that have it; NaN if none has."""

        def begin(y: Array, outputs: Array, weight: Array | None) -> Any:
            loss, of_y, of_outputs = list(self._parts())[t]
            there = _there(y[:, of_y])
            kept = None if weight is None else weight[there]
            if not (there.any() if kept is None else kept.any()):
                return None
            own = np.ascontiguousarray(outputs[there, of_outputs])
            return metric.begin(_decoded(loss, y[there, of_y]), own, kept)

        return AccumulatedMetric(begin, metric.merge, metric.compute)

    def value(self, outputs: Array, y: Array, *, reduction: Reduction = "mean") -> Any:
        """Compute the loss of these outputs."""
        return self.value_and_grad(outputs, y, reduction=reduction)[0]

    def weighted_value(
        self, outputs: Array, y: Array, weight: Array | None, normalizer: Array
    ) -> float:
        """Compute the weighted sum of the mean losses of the targets."""
        weight = np.ones(len(y)) if weight is None else weight
        factors = self._factors(y, weight)
        losses, _ = self.value_and_grad(outputs, y, reduction="none", factors=factors)
        of_rows = losses.astype(np.float64)
        of_rows[weight == 0] = 0.0  # be the loss of such a row infinite or NaN
        return float(weight @ of_rows / normalizer.sum())

    def means(self, outputs: Array, y: Array, weight: Array | None = None) -> tuple[Array, Array]:
        """Return the weighted mean loss of each target, and how much the rows that have it weigh."""
        weight = np.ones(len(y)) if weight is None else weight
        there = self.present(y)
        weights = weight @ (np.ones((len(y), len(self.names))) if there is None else there)
        means = np.zeros(len(self.names))
        for t, (loss, of_y, of_outputs) in enumerate(self._parts()):
            if weights[t] > 0:
                rows = np.flatnonzero(_there(y[:, of_y]))
                own = np.ascontiguousarray(outputs[rows, of_outputs])
                losses = loss.value(own, _decoded(loss, y[rows, of_y]), reduction="none")
                of_rows = losses.reshape(len(rows), -1).mean(1, dtype=np.float64)
                means[t] = self.weights[t] * (weight[rows] @ of_rows) / weights[t]
        return means, weights

    def value_and_grad(
        self,
        outputs: Array,
        y: Array,
        *,
        reduction: Reduction = "mean",
        out: Array | None = None,
        factors: Array | None = None,
    ) -> tuple[Any, Array]:
        """Compute the loss and the gradient of the (summed) loss, the latter into ``out``.

        ``factors`` multiply the losses of each target; by default 1; for the mean, all rows over the
        rows that have it, each as much as it counts.
        """
        if factors is None:
            mean = reduction == "mean"
            factors = self._factors(y, np.ones(len(y))) if mean else np.ones(len(self.names))
        grad = np.zeros_like(outputs)
        losses = np.zeros(len(y), outputs.dtype)
        for t, (loss, of_y, of_outputs) in enumerate(self._parts()):
            there = np.flatnonzero(_there(y[:, of_y]))
            share = self.weights[t] * factors[t]
            if not there.size or share == 0:
                continue
            target = _decoded(loss, y[there, of_y])
            own = np.ascontiguousarray(outputs[there, of_outputs])
            values, slope = loss.value_and_grad(own, target, reduction="none")
            columns = values.reshape(len(there), -1)
            losses[there] += columns.mean(1) * outputs.dtype.type(share)
            grad[there, of_outputs] = slope * outputs.dtype.type(share / columns.shape[1])
        if reduction == "mean":
            grad /= outputs.dtype.type(len(y))
        if out is not None:  # it may be the outputs
            out[...] = grad
            grad = out
        return reduced(losses, reduction), grad

    def _factors(self, y: Array, weight: Array) -> Array:
        """All weights over what the rows that have each target count in it."""
        there = self.present(y)
        if there is None:
            return np.ones(len(self.names))
        there = weight @ there
        factors: Array = np.divide(
            weight.sum(), there, out=np.zeros(len(self.names)), where=there > 0
        )
        return factors

    def _parts(self) -> Iterator[tuple[Loss, slice, slice]]:
        """Give each loss with its columns of the targets and of the outputs."""
        column = start = 0
        for loss, width, own in zip(self.losses, self.widths, self.target_widths, strict=True):
            yield loss, slice(start, start + own), slice(column, column + width)
            column, start = column + width, start + own


def _ignored(loss: Loss) -> int:
    own = loss if isinstance(loss, CrossEntropyLoss) else getattr(loss, "of", None)
    assert isinstance(own, CrossEntropyLoss)
    return own.ignore_index


def _there(own: Array) -> Array:
    """Which rows have a target, of its columns of the common array."""
    there: Array = np.logical_not(np.isnan(own).any(axis=1))
    return there


def _decoded(loss: Loss, own: Array) -> Array:
    """Return the targets as the loss takes them, of columns of the common array."""
    if not takes_labels(loss):
        return own
    there = _there(own)
    labels = np.full(len(own), _ignored(loss), np.int64)
    labels[there] = own[there, 0]
    return labels


def _describe(
    loss: MultiTargetLoss,
    width: int,
    y: Array,  # noqa: ARG001
    dtype: np.dtype[Any],
) -> JointSpec:
    labels = np.empty(0, np.int64)
    targets = (
        TargetSpec(NATIVE[type(own)](own, own_width, labels, dtype), target_width, weight)
        for own, own_width, target_width, weight in zip(
            loss.losses, loss.widths, loss.target_widths, loss.weights, strict=True
        )
    )
    return JointSpec(width, tuple(targets))


NATIVE[MultiTargetLoss] = _describe
