"""Loss functions as objects, for `Trainer`: the kernels of `dlcore.losses` with their options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from . import losses
from ._arrays import as_array

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ._typing import Array


class Loss:
    """Base class of the losses.

    One of your own defines ``value`` and ``value_and_grad`` and, if its targets are not values
    like the outputs, ``check``.
    """

    kernel: ClassVar[str]

    def options(self, dtype: np.dtype[Any]) -> dict[str, Any]:  # noqa: ARG002
        """Keyword arguments of the kernel for outputs of this dtype."""
        return {}

    def check(self, y: Any, name: str, width: int, dtype: np.dtype[Any]) -> Array:
        """Targets as the kernel takes them for outputs of shape (N, width), or a clear error."""
        return _as_values(y, name, width, dtype)

    def classes(self, width: int) -> int | None:  # noqa: ARG002
        """Return the number of classes for outputs of shape (N, width); None without classes."""
        return None

    def counted(self, y: Array) -> Array:
        """Which rows count at all: an array of bool, of shape (N,)."""
        return np.ones(len(y), np.bool_)

    def row_weights(self, y: Array) -> Array | None:  # noqa: ARG002
        """Return what each row adds to the denominator of the mean; None if 1 each."""
        return None

    def value(self, outputs: Array, y: Array, *, reduction: str = "mean") -> Any:
        """Compute the loss of these outputs."""
        kernel = getattr(losses, self.kernel)
        return kernel(outputs, y, reduction=reduction, **self.options(outputs.dtype))

    def weighted_value(self, outputs: Array, y: Array, weight: Array | None, mass: Array) -> float:
        """Compute ``sum(weight * losses of the rows) / sum(mass)``, without weights the mean."""
        if weight is None:
            return float(self.value(outputs, y))
        losses = self.value(outputs, y, reduction="none").reshape(len(y), -1)
        return float(weight @ losses.mean(1, dtype=np.float64) / mass.sum())

    def value_and_grad(
        self, outputs: Array, y: Array, *, reduction: str = "mean", out: Array | None = None
    ) -> tuple[Any, Array]:
        """Compute the loss and the gradient of the (summed) loss, the latter into ``out``."""
        kernel = getattr(losses, f"{self.kernel}_and_grad")
        options = self.options(outputs.dtype)
        result: tuple[Any, Array] = kernel(outputs, y, reduction=reduction, out=out, **options)
        return result


class CrossEntropyLoss(Loss):
    """`dlcore.cross_entropy` of logits (N, C) and class indices (N,) or probabilities (N, C).

    Parameters
    ----------
    weight : array_like of shape (C,), optional
        Weight of each class, converted to the model's dtype.
    ignore_index : int
        Rows of this class count nothing.
    label_smoothing : float
        Share of the target, in [0, 1], that is spread evenly over the classes.
    """

    kernel = "cross_entropy"

    def __init__(
        self,
        weight: Any = None,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
    ) -> None:
        if not 0 <= label_smoothing <= 1:
            raise ValueError(
                f"CrossEntropyLoss: label_smoothing must be in [0, 1], not {label_smoothing}"
            )
        self.weight = None if weight is None else np.asarray(weight)
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing

    def options(self, dtype: np.dtype[Any]) -> dict[str, Any]:
        """Keyword arguments of the kernel for logits of this dtype."""
        weight = None if self.weight is None else self.weight.astype(dtype, copy=False)
        return {
            "weight": weight,
            "ignore_index": self.ignore_index,
            "label_smoothing": self.label_smoothing,
        }

    def check(self, y: Any, name: str, width: int, dtype: np.dtype[Any]) -> Array:
        """Class indices within range or probabilities of the model's dtype, else an error."""
        if self.weight is not None and self.weight.shape != (width,):
            raise ValueError(
                f"CrossEntropyLoss: weight has shape {self.weight.shape}, "
                f"but the model has {width} outputs"
            )
        labels = as_array(y, name)
        if labels.dtype.kind == "f":
            if self.ignore_index >= 0:
                raise ValueError(
                    f"CrossEntropyLoss: ignore_index is for class indices, but {name} holds class "
                    f"probabilities"
                )
            return _as_values(labels, name, width, dtype)
        if labels.dtype.kind not in "iu" or not labels.dtype.isnative:
            raise TypeError(
                f"{name} is {labels.dtype}; cross-entropy takes class indices of an integer dtype, "
                f"or class probabilities of dtype {dtype}"
            )
        if labels.ndim != 1:
            raise ValueError(f"{name} must hold class indices of shape (N,), not {labels.shape}")
        outside = ((labels < 0) | (labels >= width)) & (labels != self.ignore_index)
        if outside.any():
            row = int(outside.argmax())
            raise IndexError(
                f"{name}[{row}] is {labels[row]}, but the model has classes 0 to {width - 1}"
            )
        return labels

    def classes(self, width: int) -> int:
        """Return the number of classes: that of the outputs."""
        return width

    def counted(self, y: Array) -> Array:
        """Rows of a class other than ``ignore_index``."""
        if y.ndim > 1:
            return super().counted(y)
        counted: Array = y != self.ignore_index
        return counted

    def row_weights(self, y: Array) -> Array | None:
        """Return the weight of each row's class, 0 for ignored rows; 1 for probabilities."""
        counted = self.counted(y)
        if y.ndim > 1 or (self.weight is None and counted.all()):
            return None
        if self.weight is None:
            return counted.astype(np.float64)
        return np.where(counted, self.weight[np.where(counted, y, 0)], 0.0)


class BCEWithLogitsLoss(Loss):
    """`dlcore.binary_cross_entropy_with_logits` of logits and targets, both of shape (N, k).

    Parameters
    ----------
    pos_weight : array_like of shape (k,), optional
        Weight of the positive targets of each column, converted to the model's dtype.
    """

    kernel = "binary_cross_entropy_with_logits"

    def __init__(self, pos_weight: Any = None) -> None:
        self.pos_weight = None if pos_weight is None else np.atleast_1d(np.asarray(pos_weight))

    def options(self, dtype: np.dtype[Any]) -> dict[str, Any]:
        """Keyword arguments of the kernel for logits of this dtype."""
        if self.pos_weight is None:
            return {}
        return {"pos_weight": self.pos_weight.astype(dtype, copy=False)}

    def classes(self, width: int) -> int:  # noqa: ARG002
        """Return the number of classes of each output: no and yes."""
        return 2

    def check(self, y: Any, name: str, width: int, dtype: np.dtype[Any]) -> Array:
        """Targets of the model's dtype and shape, else an error."""
        if self.pos_weight is not None and self.pos_weight.shape != (width,):
            raise ValueError(
                f"BCEWithLogitsLoss: pos_weight has shape {self.pos_weight.shape}, "
                f"but the model has {width} outputs"
            )
        return super().check(y, name, width, dtype)


class MSELoss(Loss):
    """`dlcore.mse_loss`: the mean squared error."""

    kernel = "mse_loss"


class L1Loss(Loss):
    """`dlcore.l1_loss`: the mean absolute error."""

    kernel = "l1_loss"


class HuberLoss(Loss):
    """`dlcore.huber_loss`: squared errors up to ``delta``, absolute ones beyond."""

    kernel = "huber_loss"

    def __init__(self, delta: float = 1.0) -> None:
        if not delta > 0:
            raise ValueError(f"HuberLoss: delta must be positive, not {delta}")
        self.delta = delta

    def options(self, dtype: np.dtype[Any]) -> dict[str, Any]:  # noqa: ARG002
        """Keyword arguments of the kernel."""
        return {"delta": self.delta}


class SmoothL1Loss(Loss):
    """`dlcore.smooth_l1_loss`: Huber's loss divided by ``beta``."""

    kernel = "smooth_l1_loss"

    def __init__(self, beta: float = 1.0) -> None:
        if not beta >= 0:
            raise ValueError(f"SmoothL1Loss: beta must not be negative, but is {beta}")
        self.beta = beta

    def options(self, dtype: np.dtype[Any]) -> dict[str, Any]:  # noqa: ARG002
        """Keyword arguments of the kernel."""
        return {"beta": self.beta}


class PoissonNLLLoss(Loss):
    """`dlcore.poisson_nll_loss` of counts, the outputs being the logarithms of their rates."""

    kernel = "poisson_nll_loss"


class QuantileLoss(Loss):
    """`dlcore.quantile_loss`: the outputs estimate quantiles of the targets.

    Parameters
    ----------
    quantile : float or array_like of shape (k,)
        Orders of the quantiles, in [0, 1]: one for all k outputs, or one for each.
    """

    kernel = "quantile_loss"

    def __init__(self, quantile: Any = 0.5) -> None:
        self.quantile = np.asarray(quantile, np.float64)
        if self.quantile.ndim > 1 or not ((self.quantile >= 0) & (self.quantile <= 1)).all():
            raise ValueError(f"QuantileLoss: quantile must be in [0, 1], not {quantile}")

    def options(self, dtype: np.dtype[Any]) -> dict[str, Any]:
        """Keyword arguments of the kernel for outputs of this dtype."""
        return {"quantile": self.quantile.astype(dtype)}

    def check(self, y: Any, name: str, width: int, dtype: np.dtype[Any]) -> Array:
        """Targets of the model's dtype and shape, else an error."""
        if self.quantile.shape not in ((), (width,)):
            raise ValueError(
                f"QuantileLoss: quantile has shape {self.quantile.shape}, "
                f"but the model has {width} outputs"
            )
        return super().check(y, name, width, dtype)


class FocalLoss(Loss):
    """``(1 - p) ** gamma`` times a cross-entropy -log(p): what is nearly right counts little.

    Parameters
    ----------
    gamma : float
        At least 0, which is the cross-entropy itself.
    loss : "cross_entropy" or "bce_with_logits"
        Of class indices, or of targets 0 and 1.

    References
    ----------
    Lin et al.: Focal loss for dense object detection, ICCV 2017.
    """

    def __init__(self, gamma: float = 2.0, loss: str = "cross_entropy") -> None:
        if not 0 <= gamma < np.inf:
            raise ValueError(f"FocalLoss: gamma must be finite and at least 0, not {gamma}")
        if loss not in ("cross_entropy", "bce_with_logits"):
            raise ValueError(
                f"FocalLoss: loss must be 'cross_entropy' or 'bce_with_logits', not {loss!r}"
            )
        self.gamma = float(gamma)
        self.of = as_loss(loss)

    def check(self, y: Any, name: str, width: int, dtype: np.dtype[Any]) -> Array:
        """Class indices, or targets 0 and 1, else an error."""
        target = self.of.check(y, name, width, dtype)
        if target.dtype.kind == "f" and not ((target == 0) | (target == 1)).all():
            raise ValueError(f"FocalLoss: {name} must hold class indices, or 0 and 1 alone")
        return target

    def classes(self, width: int) -> int | None:
        """Return the number of classes."""
        return self.of.classes(width)

    def counted(self, y: Array) -> Array:
        """Which rows count at all."""
        return self.of.counted(y)

    def row_weights(self, y: Array) -> Array | None:
        """Return what each row adds to the denominator of the mean; None if 1 each."""
        return self.of.row_weights(y)

    def value(self, outputs: Array, y: Array, *, reduction: str = "mean") -> Any:
        """Compute the loss of these outputs."""
        losses = self.of.value(outputs, y, reduction="none")
        return _reduced(losses * (-np.expm1(-losses)) ** self.gamma, reduction)

    def value_and_grad(
        self, outputs: Array, y: Array, *, reduction: str = "mean", out: Array | None = None
    ) -> tuple[Any, Array]:
        """Compute the loss and the gradient of the (summed) loss, the latter into ``out``."""
        losses, grad = self.of.value_and_grad(outputs, y, reduction="none", out=out)
        wrong = -np.expm1(-losses)
        power = wrong**self.gamma
        with np.errstate(invalid="ignore", divide="ignore"):
            slope = power + self.gamma * power / wrong * np.exp(-losses) * losses
        slope = np.where(wrong > 0, slope, self.gamma == 0).astype(grad.dtype)
        grad *= slope.reshape(len(slope), -1)
        loss = _reduced(losses * power, reduction)
        if reduction == "mean":
            grad /= grad.dtype.type(losses.size)
        return loss, grad


class MultiTargetLoss(Loss):
    """The sum of several losses, each of some columns of the outputs and of the targets.

    Parameters
    ----------
    losses : sequence of Loss or str
        In the order of the columns.
    widths : sequence of int
        Outputs of each.
    weights : sequence of float, optional
        Weight of each, by default 1.

    Notes
    -----
    The targets have shape (N, columns) and the model's dtype: a column for a cross-entropy, which
    holds class indices, and as many as outputs for another loss. The loss of a row is the weighted
    sum of what each of them, averaged over its own outputs, gives.
    """

    def __init__(
        self, losses: Sequence[Any], widths: Sequence[int], weights: Sequence[float] | None = None
    ) -> None:
        self.losses = [as_loss(loss) for loss in losses]
        self.widths = [int(width) for width in widths]
        self.weights = [1.0] * len(losses) if weights is None else [float(w) for w in weights]
        if not len(self.losses) == len(self.widths) == len(self.weights) > 0:
            raise ValueError("MultiTargetLoss: losses, widths and weights must be equally many")
        if not all(0 <= weight < np.inf for weight in self.weights):
            raise ValueError(f"MultiTargetLoss: weights must be finite and >= 0, not {weights}")
        if not all(
            native_loss(loss, 1, np.empty(0, np.int64), np.dtype("f4")) for loss in self.losses
        ):
            raise TypeError("MultiTargetLoss: losses must be those of dlcore")

    @property
    def target_widths(self) -> list[int]:
        """Columns of the targets that each loss takes."""
        pairs = zip(self.losses, self.widths, strict=True)
        return [1 if _takes_labels(loss) else width for loss, width in pairs]

    def check(self, y: Any, name: str, width: int, dtype: np.dtype[Any]) -> Array:
        """Targets of the model's dtype, as many columns as the losses take, else an error."""
        if sum(self.widths) != width:
            raise ValueError(
                f"MultiTargetLoss: widths add up to {sum(self.widths)}, "
                f"but the model has {width} outputs"
            )
        targets = _as_values(y, name, sum(self.target_widths), dtype)
        for loss, own, of, start in self._parts(targets):
            if _takes_labels(loss) and not (own[:, 0] == np.floor(own[:, 0])).all():
                raise ValueError(f"{name}[:, {start}] must hold class indices")
            target = own[:, 0].astype(np.int64) if _takes_labels(loss) else own
            loss.check(target, f"{name}[:, {start}]", of.stop - of.start, dtype)
        return targets

    def value(self, outputs: Array, y: Array, *, reduction: str = "mean") -> Any:
        """Compute the loss of these outputs."""
        return self.value_and_grad(outputs, y, reduction=reduction)[0]

    def value_and_grad(
        self, outputs: Array, y: Array, *, reduction: str = "mean", out: Array | None = None
    ) -> tuple[Any, Array]:
        """Compute the loss and the gradient of the (summed) loss, the latter into ``out``."""
        grad = np.empty_like(outputs) if out is None else out
        losses = np.zeros(len(y), outputs.dtype)
        for (loss, own, of, _), weight in zip(self._parts(y), self.weights, strict=True):
            target = own[:, 0].astype(np.int64) if _takes_labels(loss) else own
            values, slope = loss.value_and_grad(outputs[:, of], target, reduction="none")
            columns = values.reshape(len(y), -1)
            losses += columns.mean(1) * outputs.dtype.type(weight)
            grad[:, of] = slope * outputs.dtype.type(weight / columns.shape[1])
        if reduction == "mean":
            grad /= outputs.dtype.type(len(y))
        return _reduced(losses, reduction), grad

    def _parts(self, y: Array) -> Iterator[tuple[Loss, Array, slice, int]]:
        """Give each loss with its targets, its outputs and its first column of the targets."""
        column = start = 0
        for loss, width, own in zip(self.losses, self.widths, self.target_widths, strict=True):
            yield loss, y[:, start : start + own], slice(column, column + width), start
            column, start = column + width, start + own


LOSSES: dict[str, type[Loss]] = {
    "cross_entropy": CrossEntropyLoss,
    "binary_cross_entropy_with_logits": BCEWithLogitsLoss,
    "bce_with_logits": BCEWithLogitsLoss,
    "mse": MSELoss,
    "mse_loss": MSELoss,
    "l1": L1Loss,
    "l1_loss": L1Loss,
    "huber": HuberLoss,
    "huber_loss": HuberLoss,
    "smooth_l1": SmoothL1Loss,
    "smooth_l1_loss": SmoothL1Loss,
    "poisson_nll": PoissonNLLLoss,
    "poisson_nll_loss": PoissonNLLLoss,
    "quantile": QuantileLoss,
    "quantile_loss": QuantileLoss,
    "focal": FocalLoss,
}


def native_loss(loss: Loss, width: int, y: Array, dtype: np.dtype[Any]) -> tuple[Any, ...] | None:
    """Describe the loss to the native step; None for one of the user's own."""
    if type(loss) is FocalLoss:
        of = native_loss(loss.of, width, y, dtype)
        return of if loss.gamma == 0 else ("focal", width, of, loss.gamma)
    if type(loss) is MultiTargetLoss:
        labels = np.empty(0, np.int64)
        widths = zip(loss.losses, loss.widths, loss.target_widths, loss.weights, strict=True)
        parts = [(native_loss(own, w, labels, dtype), t, weight) for own, w, t, weight in widths]
        return ("joint", width, parts)
    if type(loss) not in LOSSES.values():
        return None
    options = loss.options(dtype)
    if isinstance(loss, CrossEntropyLoss):
        weight = options["weight"]
        options["weight"] = None if weight is None else np.ascontiguousarray(weight)
        return (loss.kernel, width, y.ndim == 1, *options.values())
    if isinstance(loss, BCEWithLogitsLoss):
        weight = options.get("pos_weight")
        return (loss.kernel, width, None if weight is None else np.ascontiguousarray(weight))
    if isinstance(loss, QuantileLoss):
        return (loss.kernel, width, np.resize(options["quantile"], width))
    return (loss.kernel, width, *options.values())


def _takes_labels(loss: Loss) -> bool:
    return isinstance(loss.of if isinstance(loss, FocalLoss) else loss, CrossEntropyLoss)


def _reduced(losses: Array, reduction: str) -> Any:
    if reduction == "none":
        return losses
    total = losses.sum(dtype=np.float64) / (losses.size if reduction == "mean" else 1)
    return losses.dtype.type(total)


def as_loss(loss: Any) -> Loss:
    """Return the loss of this name, or the loss itself."""
    if isinstance(loss, Loss):
        return loss
    if isinstance(loss, str) and loss in LOSSES:
        return LOSSES[loss]()
    raise ValueError(f"loss must be one of {', '.join(LOSSES)} or a loss object, not {loss!r}")


def _as_values(y: Any, name: str, width: int, dtype: np.dtype[Any]) -> Array:
    """Targets of shape (N, width) and this dtype; (N,) is taken for (N, 1)."""
    values = as_array(y, name)
    if values.dtype != dtype:
        raise TypeError(
            f"{name} is {values.dtype}, the model {dtype}: pass {name}.astype(np.{dtype})"
        )
    if values.ndim == 1 and width == 1:
        values = values[:, np.newaxis]
    if values.ndim != 2 or values.shape[1] != width:
        raise ValueError(
            f"{name} must have shape (N, {width}), like the outputs, not {values.shape}"
        )
    return values
