"""scikit-learn's scorers as metrics: imported only when one is asked for."""

from __future__ import annotations

from functools import partial
from inspect import signature
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._common.optional import find, install_line
from dlcore.functional._activations import sigmoid, softmax

if TYPE_CHECKING:
    from collections.abc import Callable

    from dlcore._common.typing import Array


def is_scorer(metric: Any) -> bool:
    """Whether this is an object such as `sklearn.metrics.make_scorer` returns."""
    return callable(metric) and hasattr(metric, "_score_func") and hasattr(metric, "_sign")


def name_of_scorer(scorer: Any) -> str:
    """Return the name of its function, with "neg_" before it if the scorer turns its sign."""
    name = name_of_function(scorer._score_func)
    return name if scorer._sign > 0 else f"neg_{name}"


def name_of_function(function: Any) -> str:
    """Return the name of a callable: its own, that of a partial's function, or of its class."""
    while isinstance(function, partial):
        function = function.func
    name = getattr(function, "__name__", None)
    return name if isinstance(name, str) else type(function).__name__


def scorer_named(name: str, others: tuple[str, ...]) -> Any:
    """Return scikit-learn's scorer of this name, which is none of the others.

    Raises
    ------
    ImportError
        scikit-learn is not installed.
    ValueError
        It has no such scorer.
    """
    known = f"metrics: {name!r} is not one of {', '.join(map(repr, others))}"
    sklearn = find("sklearn.metrics")
    if sklearn is None:
        raise ImportError(
            f"{known} or a function; the names of scikit-learn's scorers need it: "
            f"{install_line('sklearn')}"
        )
    names = sklearn.get_scorer_names()
    if name not in names:
        raise ValueError(f"{known}, a function or a scorer of scikit-learn: {', '.join(names)}")
    return sklearn.get_scorer(name)


def score_of(
    scorer: Any, name: str, kind: str, loss: str
) -> tuple[Callable[[Array, Array, Array | None], float], Callable[[Array], Array]]:
    """Make a score of the truth, the outputs and the weights out of a scorer.

    The second is what it needs of the outputs, which the first takes.

    Parameters
    ----------
    scorer : object
        As `sklearn.metrics.make_scorer` returns it.
    name : str
        Its name, for the message.
    kind : {"classes", "labels", "values"}
        What the outputs are: logits of classes or of yes-or-no labels, or values.
    loss : str
        Name of the loss, for the message.

    Raises
    ------
    ValueError
        If the scorer is not for what the loss is for. (Of a function of the user's own only
        scikit-learn can tell, when it is called.)
    """
    function = scorer._score_func
    while isinstance(function, partial):
        function = function.func
    module = function.__module__
    of_values = module == "sklearn.metrics._regression"
    of_classes = scorer._response_method != "predict" or (
        module.startswith("sklearn.metrics.") and not of_values
    )
    if of_values and kind != "values":
        raise ValueError(f"metrics: {name!r} needs a loss for values, not {loss}")
    if of_classes and kind == "values":
        raise ValueError(f"metrics: {name!r} needs a loss for classes, not {loss}")
    takes_weight = "sample_weight" in signature(scorer._score_func).parameters

    predicts = scorer._response_method == "predict" and kind == "classes"

    def score(true: Array, outputs: Array, weight: Array | None) -> float:
        given = {"sample_weight": weight} if takes_weight and weight is not None else {}
        if kind != "classes":
            true = _flat(true) if kind == "values" else _flat(true).astype(np.int64)
        fitted = _Fitted(kind, outputs.shape[1], is_predicted=predicts)
        return float(scorer(fitted, outputs, true, **given))

    def reduce(outputs: Array) -> Array:
        return outputs.argmax(1)[:, np.newaxis] if predicts else outputs

    return score, reduce


class _Fitted:
    """What scikit-learn takes for a fitted estimator: its input are the outputs of the network.

    Or, where ``is_predicted``, the predicted classes themselves.
    """

    def __init__(self, kind: str, width: int, *, is_predicted: bool = False) -> None:
        self._kind, self._is_predicted = kind, is_predicted
        if kind != "values":
            several_labels = kind == "labels" and width > 1
            self.classes_ = (
                np.tile([0, 1], (width, 1)) if several_labels else np.arange(max(width, 2))
            )

    def predict(self, outputs: Array) -> Array:
        """Return the values, the most probable classes, or 1 for each yes."""
        if self._kind == "classes":
            classes: Array = outputs[:, 0] if self._is_predicted else outputs.argmax(1)
            return classes
        return _flat(outputs if self._kind == "values" else (outputs > 0).astype(np.int64))

    def predict_proba(self, outputs: Array) -> Array:
        """Return probabilities of the classes, or of yes if there are several labels."""
        outputs = outputs.astype(np.float64)
        if self._kind == "classes":
            return softmax(outputs)
        if outputs.shape[1] == 1:
            return np.hstack([sigmoid(-outputs), sigmoid(outputs)])
        return sigmoid(outputs)

    def decision_function(self, outputs: Array) -> Array:
        """Return logits: of two classes that of the second over the first."""
        if self._kind == "classes" and outputs.shape[1] == 2:
            return np.subtract(outputs[:, 1], outputs[:, 0], dtype=np.float64)
        return _flat(outputs)

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, RegressorTags, Tags, TargetTags

        values = self._kind == "values"
        return Tags(
            estimator_type="regressor" if values else "classifier",
            target_tags=TargetTags(required=True),
            transformer_tags=None,
            classifier_tags=None if values else ClassifierTags(),
            regressor_tags=RegressorTags() if values else None,
        )


def _flat(array: Array) -> Array:
    """Return (N,) for (N, 1)."""
    return array[:, 0] if array.shape[1] == 1 else array
