"""Metrics by name or as functions: how good the outputs are, beside the loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._common.checks import check_call, check_instance
from dlcore.metrics._accumulation import AccumulatedMetric, of_all_rows
from dlcore.metrics._scores import NAMES, scores_named
from dlcore.metrics._sklearn import (
    is_scorer,
    name_of_function,
    name_of_scorer,
    score_of,
    scorer_named,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dlcore._common.protocols import Loss
    from dlcore._common.typing import Array

__all__ = ["as_metrics", "metric_named"]


def as_metrics(
    metrics: Sequence[Any] | Mapping[str, Any] | None, loss: Loss
) -> dict[str, AccumulatedMetric]:
    """Metrics by the name under which they are logged.

    Parameters
    ----------
    metrics : sequence of str, scikit-learn scorer or callable, or mapping of str to them, optional
        Names as in `metric_named`; scorers made by `sklearn.metrics.make_scorer`; functions and
        other callables ``metric(y_true, outputs) -> float``, called once for all rows of an epoch,
        without weights. They are logged under their own names, a `functools.partial` under that of
        its function, an object under that of its class; or under those of a mapping.
    loss : Loss
        Tells what the outputs and the targets are.

    Raises
    ------
    TypeError
        If `metrics` is a string, or one of them is neither a name nor callable, or a class.
    ValueError
        If a name is unknown, taken, or not for this loss.
    ImportError
        If a name could only be one of scikit-learn's, which is not installed.
    """
    if isinstance(metrics, str):
        raise TypeError(f"metrics must be a list such as [{metrics!r}], not a string")
    if metrics is not None and not np.iterable(metrics):
        raise TypeError(f"metrics must be a list, not {metrics!r}")
    result: dict[str, AccumulatedMetric] = {}
    for name, metric in _named(metrics):
        if name in ("loss", "lr") or name in result or name.startswith("val_"):
            raise ValueError(
                f"metrics: the name {name!r} is taken; a dict such as {{'my_name': metric}} gives "
                f"others"
            )
        result[name] = _as_metric(metric, name, loss)
    return result


def metric_named(name: str, loss: Loss) -> AccumulatedMetric:
    """Return the metric of this name for the targets and outputs of a loss.

    Every one is weighted by ``sample_weight``; rows that the loss does not count, such as those of
    ``ignore_index``, do not count here either. Class probabilities as targets stand for the most
    probable class, a target above 0.5 of a yes-or-no output for yes.

    Parameters
    ----------
    name : str
        For the loss of one of several classes:

        - "accuracy": share of the rows whose largest output is that of their class;
        - "top_5_accuracy" with any number, or "top_k_accuracy" for 5: share of the rows whose class
          is among so many largest outputs (of equal ones, a later class counts as larger);
        - "balanced_accuracy": mean over the classes that occur of the recall;
        - "precision" ``tp / (tp + fp)``, "recall" ``tp / (tp + fn)`` and "f1"
          ``2 tp / (2 tp + fp + fn)``: of class 1 if there are two classes, else the mean over the
          classes that occur as target or as prediction. A quotient 0 / 0 is 0.

        For a loss of yes-or-no outputs: the same, but for the top k, for each output, averaged over
        the outputs.

        For the loss of values, each averaged over the outputs: "mae" ``mean |y - p|``, "mse"
        ``mean (y - p)^2``, "rmse" its square root, "r2"
        ``1 - sum (y - p)^2 / sum (y - mean y)^2``. For `PoissonNLLLoss` p is the rate, exp(output).

        Or a name of ``sklearn.metrics.get_scorer_names()``, such as "roc_auc": computed by that
        scorer from predictions, probabilities (softmax or sigmoid), logits or values, whichever it
        asks for; weighted if its function takes ``sample_weight``.
    loss : Loss
        Of the outputs.

    Returns
    -------
    callable
        ``metric(y_true, outputs, weight=None, *, comm=None) -> float``; with a communicator, such
        as ``mpi4py.MPI.COMM_WORLD``, each rank gives rows of its own, maybe none, and all get the
        metric of the rows of all.

    Raises
    ------
    ValueError
        If the name is unknown, or the metric is not for this loss.
    ImportError
        If the name could only be one of scikit-learn's, which is not installed.

    Notes
    -----
    All but "top_k_accuracy", whose k is 2 there, equal scikit-learn's functions of these names,
    "precision", "recall" and "f1" those with ``average="binary"`` for two classes and
    ``average="macro"`` for more.

    References
    ----------
    Sokolova, Lapalme: A systematic analysis of performance measures for classification tasks,
    Information Processing & Management 45, 2009.
    Brodersen et al.: The balanced accuracy and its posterior distribution, ICPR 2010.
    """
    check_instance("metric_named: name", name, str)
    if not hasattr(loss, "target_metrics"):
        raise TypeError(
            f"metric_named: loss must be an object such as CrossEntropyLoss(), not {loss!r}"
        )
    if loss.target_metrics():
        raise ValueError(
            f"metrics: {name!r} is for one target; pass metrics={{target: [{name!r}]}} to "
            f"{type(loss).__name__}"
        )
    kind = kind_of(loss)
    by_kind = scores_named(name)
    if by_kind is None:
        return _as_metric(scorer_named(name, NAMES), name, loss)
    if kind not in by_kind:
        needed = "values" if "values" in by_kind else "classes"
        if kind == "labels" and needed == "classes":
            needed = "one of several classes"
        raise ValueError(f"metrics: {name!r} needs a loss for {needed}, not {type(loss).__name__}")
    score = by_kind[kind]

    def begin(true: Array, outputs: Array, weight: Array | None) -> Any:
        return score.begin(true, outputs, np.ones(len(true)) if weight is None else weight)

    return _metric(AccumulatedMetric(begin, score.merge, score.compute), name, loss)


def kind_of(loss: Loss) -> str:
    """Tell what the outputs are: logits of "classes" or of yes-or-no "labels", or "values"."""
    # Of three outputs: three classes, or two each.
    classes = loss.classes(3)
    return "values" if classes is None else "labels" if classes == 2 else "classes"


def as_truth(kind: str, y_true: Array) -> Array:
    """Return class indices (N,), yes-or-no labels (N, k) of bool, or the values themselves."""
    if kind == "values":
        return y_true
    if kind == "labels":
        labels: Array = y_true > 0.5
        return labels
    return (y_true if y_true.ndim == 1 else y_true.argmax(1)).astype(np.int64)


def _named(metrics: Any) -> Iterator[tuple[str, Any]]:
    """Give each metric with its name."""
    if isinstance(metrics, Mapping):
        for name, metric in metrics.items():
            if not isinstance(name, str):
                raise TypeError(f"metrics: a name must be a string, not {name!r}")
            _name(metric)  # is one at all
            yield name, metric
    else:
        for metric in () if metrics is None else metrics:
            yield _name(metric), metric


def _name(metric: Any) -> str:
    if isinstance(metric, str):
        return metric
    if is_scorer(metric):
        return name_of_scorer(metric)
    if isinstance(metric, type) or not callable(metric):
        raise TypeError(
            f"a metric is a name or a function or another callable or a scorer of scikit-learn, "
            f"not {metric!r}"
        )
    name = name_of_function(metric)
    check_call(f"metrics: {name}", metric, "y_true", "outputs")
    return name


def _as_metric(metric: Any, name: str, loss: Loss) -> AccumulatedMetric:
    if isinstance(metric, str):
        return metric_named(metric, loss)
    if is_scorer(metric):
        score, reduce = score_of(metric, name, kind_of(loss), type(loss).__name__)
        return _metric(of_all_rows(score, reduce), name, loss)

    def unweighted(y_true: Array, outputs: Array, weight: Array | None) -> float:  # noqa: ARG001
        return float(metric(y_true, outputs))

    return of_all_rows(unweighted)


def _metric(score: AccumulatedMetric, name: str, loss: Loss) -> AccumulatedMetric:
    """Make a metric of the loss's targets and outputs out of a score of the truth."""
    kind = kind_of(loss)

    def begin(y_true: Array, outputs: Array, weight: Array | None) -> Any:
        counted = loss.counted(y_true)
        if not counted.all():
            y_true, outputs = y_true[counted], outputs[counted]
            weight = None if weight is None else weight[counted]
        if kind != "classes" and y_true.shape != outputs.shape:
            raise ValueError(
                f"metrics: {name!r} needs targets of the outputs' shape {outputs.shape}, "
                f"not {y_true.shape}"
            )
        if len(y_true) == 0:
            return None
        if kind == "values":
            outputs = loss.predicted(outputs)
        return score.begin(as_truth(kind, y_true), outputs, weight)

    return AccumulatedMetric(begin, score.merge, score.compute)
