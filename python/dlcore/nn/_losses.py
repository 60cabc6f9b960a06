"""Loss functions as objects, for `Trainer`: the kernels of `dlcore.functional` with their options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from dlcore._common.arrays import as_array, as_numbers, cast_of, check_dtype
from dlcore._common.checks import (
    check_call,
    check_choice,
    check_defines,
    check_in,
    check_int,
    check_name,
    check_not_negative,
    check_number,
)
from dlcore._common.representation import shown_call
from dlcore._native import dispatch
from dlcore._native.specs import CrossEntropySpec, ElementwiseLossSpec, FocalSpec
from dlcore.functional import _losses as losses

if TYPE_CHECKING:
    from collections.abc import Callable

    from dlcore._common.protocols import Metric
    from dlcore._common.typing import Array, Reduction
    from dlcore._native.specs import LossSpec

_ANY = 2**63 - 1  # classes

__all__ = [
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "FocalLoss",
    "HuberLoss",
    "L1Loss",
    "Loss",
    "MSELoss",
    "PoissonNLLLoss",
    "QuantileLoss",
    "SmoothL1Loss",
]


class Loss:
    """Base class of the losses.

    One of your own defines `value_and_grad` and, if its targets are not values like the outputs,
    `check` and `classes`. The other methods have defaults, which serve a loss whose mean is over
    all rows. Training calls a loss of your own in Python, between native passes forward and
    backward.

    Examples
    --------
    >>> import numpy as np, dlcore as dl
    >>> class LogCosh(dl.Loss):
    ...     def value_and_grad(self, outputs, y, *, reduction="mean", out=None):
    ...         error = outputs - y
    ...         losses, grad = np.log(np.cosh(error)), np.tanh(error)
    ...         if reduction == "none":
    ...             return losses, grad
    ...         return losses.mean(), grad / grad.size
    >>> model = dl.Sequential(dl.Linear(3, 1), seed=0)
    >>> trainer = dl.Trainer(model, loss=LogCosh(), seed=0)
    """

    # Whether it also takes the mean of two targets, class probabilities for class indices.
    mixable: ClassVar[bool] = True

    def __repr__(self) -> str:
        return shown_call(self)

    def check(self, y: Any, name: str, width: int, dtype: np.dtype[Any]) -> Array:
        """Return the targets as `value_and_grad` takes them, or raise a clear error.

        Parameters
        ----------
        y : object
            What the user gave as targets.
        name : str
            What to call them in the message.
        width : int
            Features of the outputs, which have the shape (N, width),
        dtype : dtype
            and their dtype.

        Returns
        -------
        ndarray
            With a row for each row of the outputs; by default of their shape and dtype.
        """
        return as_values(y, name, width, dtype)

    def classes(self, width: int) -> int | None:  # noqa: ARG002
        """Return the number of classes for outputs of shape (N, width); None without classes."""
        return None

    def predicted(self, outputs: Array) -> Array:
        """Return the values that the outputs predict, for metrics: by default themselves."""
        return outputs

    def counted(self, y: Array) -> Array:
        """Which rows count at all: an array of bool, of shape (N,)."""
        return np.ones(len(y), np.bool_)

    def row_weights(self, y: Array) -> Array | None:  # noqa: ARG002
        """Return what each row adds to the denominator of the mean; None if 1 each."""
        return None

    def normalizers(self, y: Array, weight: Array | None = None) -> Array:
        """Return what each row adds to the denominator of the mean, times its weight."""
        own = self.row_weights(y)
        own = np.ones(len(y)) if own is None else own.astype(np.float64, copy=False)
        return own if weight is None else own * weight

    def present(self, y: Array) -> Array | None:  # noqa: ARG002
        """Return what each row adds to the denominators of several targets' means; None if 1 each.

        Of shape (N, targets), 0 where a target is missing.
        """
        return None

    def target_metrics(self) -> dict[str, Metric]:
        """Return the metrics that the loss itself logs, by name, such as those of each target."""
        return {}

    def value(self, outputs: Array, y: Array, *, reduction: Reduction = "mean") -> Any:
        """Compute the loss of these outputs: by default with its gradient, which is let go.

        Parameters
        ----------
        outputs : ndarray of shape (N, width)
        y : ndarray
            As `check` returned it.
        reduction : {"mean", "sum", "none"}
        """
        return self.value_and_grad(outputs, y, reduction=reduction)[0]

    def weighted_value(
        self, outputs: Array, y: Array, weight: Array | None, normalizer: Array
    ) -> float:
        """Compute ``sum(weight * losses of the rows) / sum(normalizer)``, without weights the mean."""
        if weight is None:
            return float(self.value(outputs, y))
        losses = self.value(outputs, y, reduction="none").reshape(len(y), -1)
        of_rows = losses.mean(1, dtype=np.float64)
        of_rows[np.asarray(weight) == 0] = 0.0  # be the loss of such a row infinite or NaN
        return float(weight @ of_rows / normalizer.sum())

    def means(self, outputs: Array, y: Array, weight: Array | None = None) -> tuple[Array, Array]:
        """Return the mean loss of some rows, and how much it weighs beside that of others.

        Of shape (1,) each; of a sum of several means (k,).
        """
        normalizer = self.normalizers(y, weight)
        total = float(normalizer.sum())
        if not total > 0:
            return np.zeros(1), np.zeros(1)
        value = self.weighted_value(outputs, y, weight, normalizer)
        return np.array([value]), np.array([total])

    def value_and_grad(
        self, outputs: Array, y: Array, *, reduction: Reduction = "mean", out: Array | None = None
    ) -> tuple[Any, Array]:
        """Compute the loss and its gradient: what a loss of your own must define.

        Parameters
        ----------
        outputs : ndarray of shape (N, width)
            The outputs of the model, which are not to be changed.
        y : ndarray
            As `check` returned it.
        reduction : {"mean", "sum", "none"}
            Training asks for "mean", with weights of rows for "none": the losses of the rows, of
            shape (N,) or (N, k), and the gradient of their sum.
        out : ndarray, optional
            Where the gradient may go, of the shape and dtype of the outputs.

        Returns
        -------
        loss : scalar or ndarray
        grad : ndarray
            Of the (summed) loss with respect to the outputs, of their shape.
        """
        raise NotImplementedError(
            f"{type(self).__name__} does not define value_and_grad(outputs, y, *, reduction, out)"
        )


class KernelLoss(Loss):
    """Base class of the losses that are a kernel of `dlcore.functional` with some options."""

    kernel: ClassVar[str]

    def options(self, dtype: np.dtype[Any]) -> dict[str, Any]:  # noqa: ARG002
        """Keyword arguments of the kernel for outputs of this dtype."""
        return {}

    def value(self, outputs: Array, y: Array, *, reduction: Reduction = "mean") -> Any:
        """Compute the loss of these outputs."""
        kernel = getattr(losses, self.kernel)
        return kernel(outputs, y, reduction=reduction, **self.options(outputs.dtype))

    def value_and_grad(
        self, outputs: Array, y: Array, *, reduction: Reduction = "mean", out: Array | None = None
    ) -> tuple[Any, Array]:
        """Compute the loss and the gradient of the (summed) loss, the latter into ``out``."""
        kernel = getattr(losses, f"{self.kernel}_and_grad")
        options = self.options(outputs.dtype)
        result: tuple[Any, Array] = kernel(outputs, y, reduction=reduction, out=out, **options)
        return result


class CrossEntropyLoss(KernelLoss):
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
        self.weight = None if weight is None else _weights("CrossEntropyLoss: weight", weight)
        check_int("CrossEntropyLoss: ignore_index", ignore_index, -(2**63))
        self.ignore_index = int(ignore_index)
        self.label_smoothing = check_in(
            "CrossEntropyLoss: label_smoothing", label_smoothing, "[0, 1]"
        )

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
        labels = _class_array(y, name, width, dtype)
        if labels.dtype.kind == "f":
            if self.ignore_index >= 0:
                raise ValueError(
                    f"CrossEntropyLoss: ignore_index is for class indices, but {name} holds class "
                    f"probabilities"
                )
            return as_values(labels, name, width, dtype)
        if labels.ndim != 1:
            raise ValueError(f"{name} must hold class indices of shape (N,), not {labels.shape}")
        if dispatch.core.are_classes(labels, width):
            return labels
        outside = ((labels < 0) | (labels >= width)) & (labels != self.ignore_index)
        if outside.any():
            row = int(outside.argmax())
            from_one = labels.min() == 1 and labels.max() == width
            own = name.rpartition(": ")[2]
            remedy = f"; pass {own} - 1 for classes that are counted from 1" if from_one else ""
            raise IndexError(
                f"{name}[{row}] is {labels[row]}, but the model has classes 0 to {width - 1}{remedy}"
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
        if y.ndim > 1:
            return None
        if self.weight is None:
            if self.ignore_index < 0 and dispatch.core.are_classes(y, _ANY):
                return None
            counted = self.counted(y)
            return None if counted.all() else counted.astype(np.float64)
        counted = self.counted(y)
        return np.where(counted, self.weight[np.where(counted, y, 0)], 0.0)


class BCEWithLogitsLoss(KernelLoss):
    """`dlcore.binary_cross_entropy_with_logits` of logits and targets, both of shape (N, k).

    Parameters
    ----------
    pos_weight : array_like of shape (k,), optional
        Weight of the positive targets of each column, converted to the model's dtype.
    """

    kernel = "binary_cross_entropy_with_logits"

    def __init__(self, pos_weight: Any = None) -> None:
        self.pos_weight: Array | None = None
        if pos_weight is not None:
            self.pos_weight = np.atleast_1d(_weights("BCEWithLogitsLoss: pos_weight", pos_weight))

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


class MSELoss(KernelLoss):
    """`dlcore.mse_loss`: the mean squared error."""

    kernel = "mse_loss"


class L1Loss(KernelLoss):
    """`dlcore.l1_loss`: the mean absolute error."""

    kernel = "l1_loss"


class HuberLoss(KernelLoss):
    """`dlcore.huber_loss`: squared errors up to ``delta``, absolute ones beyond."""

    kernel = "huber_loss"

    def __init__(self, delta: float = 1.0) -> None:
        self.delta = check_number("HuberLoss: delta", delta, "(0, inf]")

    def options(self, dtype: np.dtype[Any]) -> dict[str, Any]:  # noqa: ARG002
        """Keyword arguments of the kernel."""
        return {"delta": self.delta}


class SmoothL1Loss(KernelLoss):
    """`dlcore.smooth_l1_loss`: Huber's loss divided by ``beta``."""

    kernel = "smooth_l1_loss"

    def __init__(self, beta: float = 1.0) -> None:
        self.beta = check_not_negative("SmoothL1Loss: beta", beta)

    def options(self, dtype: np.dtype[Any]) -> dict[str, Any]:  # noqa: ARG002
        """Keyword arguments of the kernel."""
        return {"beta": self.beta}


class PoissonNLLLoss(KernelLoss):
    """`dlcore.poisson_nll_loss` of counts, the outputs being the logarithms of their rates."""

    kernel = "poisson_nll_loss"

    def predicted(self, outputs: Array) -> Array:
        """Return the rates, whose logarithms the outputs are."""
        return np.exp(outputs, dtype=np.float64)


class QuantileLoss(KernelLoss):
    """`dlcore.quantile_loss`: the outputs estimate quantiles of the targets.

    Parameters
    ----------
    quantile : float or array_like of shape (k,)
        Orders of the quantiles, in [0, 1]: one for all k outputs, or one for each.
    """

    kernel = "quantile_loss"

    def __init__(self, quantile: Any = 0.5) -> None:
        self.quantile = _weights("QuantileLoss: quantile", quantile).astype(np.float64)
        if self.quantile.ndim > 1:
            raise ValueError(
                f"QuantileLoss: quantile must have shape () or (k,), not {self.quantile.shape}"
            )
        for order in self.quantile.ravel().tolist():
            check_in("QuantileLoss: quantile", order, "[0, 1]")

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

    mixable = False

    def __init__(self, gamma: float = 2.0, loss: str = "cross_entropy") -> None:
        self.gamma = check_not_negative("FocalLoss: gamma", gamma)
        check_choice("FocalLoss: loss", loss, ("cross_entropy", "bce_with_logits"))
        self.loss, self.of = loss, as_loss(loss)

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

    def value(self, outputs: Array, y: Array, *, reduction: Reduction = "mean") -> Any:
        """Compute the loss of these outputs."""
        losses = self.of.value(outputs, y, reduction="none")
        return reduced(losses * (-np.expm1(-losses)) ** self.gamma, reduction)

    def value_and_grad(
        self, outputs: Array, y: Array, *, reduction: Reduction = "mean", out: Array | None = None
    ) -> tuple[Any, Array]:
        """Compute the loss and the gradient of the (summed) loss, the latter into ``out``."""
        losses, grad = self.of.value_and_grad(outputs, y, reduction="none", out=out)
        wrong = -np.expm1(-losses)
        power = wrong**self.gamma
        with np.errstate(invalid="ignore", divide="ignore"):
            # e^-l l of an infinite loss l is 0.
            own = np.exp(-losses) * np.minimum(losses, 1e3)
            slope = power + self.gamma * power / wrong * own
        slope = np.where(wrong > 0, slope, self.gamma == 0).astype(grad.dtype)
        grad *= slope.reshape(len(slope), -1)
        loss = reduced(losses * power, reduction)
        if reduction == "mean":
            grad /= grad.dtype.type(losses.size)
        return loss, grad


# The losses by name: that of the kernel, and the same without "_loss".
LOSSES: dict[str, type[Loss]] = {
    name: loss
    for loss in (
        CrossEntropyLoss,
        BCEWithLogitsLoss,
        MSELoss,
        L1Loss,
        HuberLoss,
        SmoothL1Loss,
        PoissonNLLLoss,
        QuantileLoss,
    )
    for name in (loss.kernel.removesuffix("_loss"), loss.kernel)
} | {"bce_with_logits": BCEWithLogitsLoss, "focal": FocalLoss}


def native_loss(loss: Loss, width: int, y: Array, dtype: np.dtype[Any]) -> LossSpec | None:
    """Describe the loss to the native step; None for one of the user's own."""
    describe = NATIVE.get(type(loss))
    return None if describe is None else describe(loss, width, y, dtype)


def _describe(
    loss: KernelLoss,
    width: int,
    y: Array,  # noqa: ARG001
    dtype: np.dtype[Any],
) -> ElementwiseLossSpec:
    return ElementwiseLossSpec(width, loss.kernel, *loss.options(dtype).values())


def _describe_cross_entropy(
    loss: CrossEntropyLoss, width: int, y: Array, dtype: np.dtype[Any]
) -> CrossEntropySpec:
    weight = loss.options(dtype)["weight"]
    return CrossEntropySpec(
        width,
        takes_labels=y.ndim == 1,
        weight=None if weight is None else np.ascontiguousarray(weight),
        ignore_index=loss.ignore_index,
        label_smoothing=loss.label_smoothing,
    )


def _describe_bce(
    loss: BCEWithLogitsLoss,
    width: int,
    y: Array,  # noqa: ARG001
    dtype: np.dtype[Any],
) -> ElementwiseLossSpec:
    weight = loss.options(dtype).get("pos_weight")
    columns = None if weight is None else np.ascontiguousarray(weight)
    return ElementwiseLossSpec(width, loss.kernel, columns=columns)


def _describe_quantile(
    loss: QuantileLoss,
    width: int,
    y: Array,  # noqa: ARG001
    dtype: np.dtype[Any],
) -> ElementwiseLossSpec:
    columns = np.resize(loss.options(dtype)["quantile"], width)
    return ElementwiseLossSpec(width, loss.kernel, columns=columns)


def _describe_focal(
    loss: FocalLoss, width: int, y: Array, dtype: np.dtype[Any]
) -> FocalSpec | CrossEntropySpec | ElementwiseLossSpec:
    of = native_loss(loss.of, width, y, dtype)
    assert isinstance(of, CrossEntropySpec | ElementwiseLossSpec)
    return of if loss.gamma == 0 else FocalSpec(width, of, loss.gamma)


# How each loss is described to the native step: f(loss, width, y, dtype).
NATIVE: dict[type[Loss], Callable[..., Any]] = {
    **dict.fromkeys((MSELoss, L1Loss, HuberLoss, SmoothL1Loss, PoissonNLLLoss), _describe),
    CrossEntropyLoss: _describe_cross_entropy,
    BCEWithLogitsLoss: _describe_bce,
    QuantileLoss: _describe_quantile,
    FocalLoss: _describe_focal,
}


def _weights(name: str, values: Any) -> Array:
    """Return numbers, one or several, as an array, else raise an error."""
    array = as_numbers(values, name)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, not {values}")
    return array


def takes_labels(loss: Loss) -> bool:
    """Whether the targets of a loss are class indices."""
    return isinstance(loss.of if isinstance(loss, FocalLoss) else loss, CrossEntropyLoss)


def reduced(losses: Array, reduction: Reduction) -> Any:
    """Reduce losses to their mean or sum, in float64, or leave them."""
    if reduction == "none":
        return losses
    total = losses.sum(dtype=np.float64) / (losses.size if reduction == "mean" else 1)
    return losses.dtype.type(total)


def as_loss(loss: Any, argument: str = "loss") -> Loss:
    """Return the loss of this name or function with its default options, or itself."""
    if isinstance(loss, Loss):
        if type(loss) not in NATIVE:
            check_defines(argument, loss, Loss, "value_and_grad(outputs, y, *, reduction, out)")
            name = f"{argument}: {type(loss).__name__}.value_and_grad"
            check_call(name, loss.value_and_grad, "outputs", "y")
        return loss
    if isinstance(loss, type) and issubclass(loss, Loss):
        name = loss.__name__
        raise ValueError(  # noqa: TRY004 - as for a name that is unknown
            f"{argument} must be a name or a loss object: write {name}(), not {name}"
        )
    name = getattr(loss, "__name__", "")
    if name in LOSSES and loss is getattr(losses, name, None):
        return LOSSES[name]()
    return LOSSES[check_name(argument, loss, LOSSES, otherwise=" or a loss object")]()


def _class_array(y: Any, name: str, width: int, dtype: np.dtype[Any]) -> Array:
    """Read class indices or probabilities; an error says what to write for anything else."""
    try:
        array = as_array(y, name)
    except TypeError as error:
        raise TypeError(f"{error}; {_takes_classes(width, dtype)}") from error
    kind = array.dtype.kind
    is_hot = kind in "iu" and array.ndim == 2 and array.shape[1] == width > 1
    if array.dtype.isnative and (array.ndim != 1 if kind == "f" else kind in "iu" and not is_hot):
        return array
    takes, cast = _takes_classes(width, dtype), cast_of(y, name, np.dtype(np.int64))
    own = name.rpartition(": ")[2]
    if kind == "f" and array.dtype == dtype:
        raise ValueError(
            f"{name} must have shape (N, {width}), like the outputs, as class probabilities, not "
            f"{array.shape}; for class indices, which are integers, pass {cast}"
        )
    if is_hot:
        raise ValueError(
            f"{name} is {array.dtype} of shape {array.shape}; {takes}: pass one-hot rows as float, "
            f"{own}.astype(np.{dtype}), or {own}.argmax(axis=1)"
        )
    if kind in "USOT":
        what = "objects" if kind == "O" else "text"
        raise TypeError(
            f"{name} holds {what}; {takes}: pass np.unique({own}, return_inverse=True)[1]"
        )
    remedy = f": pass {cast}" if kind in "bf" else ""
    raise TypeError(f"{name} is {array.dtype}; {takes}{remedy}")


def _takes_classes(width: int, dtype: np.dtype[Any]) -> str:
    return (
        f"cross-entropy takes class indices of an integer dtype and shape (N,), "
        f"or class probabilities of dtype {dtype} and shape (N, {width})"
    )


def as_values(y: Any, name: str, width: int, dtype: np.dtype[Any]) -> Array:
    """Take targets of shape (N, width) and this dtype; (N,) is taken for (N, 1)."""
    values = as_array(y, name)
    check_dtype(y, values, name, dtype)
    if values.ndim == 1 and width == 1:
        values = values[:, np.newaxis]
    if values.ndim != 2 or values.shape[1] != width:
        raise ValueError(
            f"{name} must have shape (N, {width}), like the outputs, not {values.shape}"
        )
    return values
