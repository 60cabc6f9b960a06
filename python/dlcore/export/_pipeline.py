"""The description of a network, an estimator or a pipeline, as the user gives it."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np

from dlcore._common.checks import check_floating
from dlcore.export._description import Description, Output, after
from dlcore.export._labels import as_labels
from dlcore.export._network import of_network, together
from dlcore.export._normalizers import of_normalizer
from dlcore.many._ensemble import Ensemble
from dlcore.nn._sequential import Sequential

# What `output=` may make of the outputs of a network that is no estimator's.
OUTPUTS = ("identity", "softmax", "sigmoid", "exp")


def describe(
    function: str,
    model: Any,
    *,
    output: str | None = None,
    classes: Any = None,
    dtype: Any = None,
    folds: bool = False,
) -> Description:
    """Describe a network, an estimator, or a pipeline of normalizers and either.

    Parameters
    ----------
    function : str
        Who asks, for the messages.
    model : Sequential, estimator, scikit-learn's Pipeline, or a sequence of normalizers and a model
    output : str, optional
        One of `OUTPUTS`, for a network that is no estimator's.
    classes : array_like, optional
        The labels of a softmax, or of a sigmoid of one output.
    dtype : dtype, optional
        Of the rows and of the parameters; by default that of the network.
    folds : bool
        Whether batch normalization is folded into the linear layers.

    Raises
    ------
    TypeError
        A part has no export; the message names it, and says what to do.
    """
    described = _described(function, model, folds)
    if output is not None or classes is not None:
        described = _with_output(function, described, output, classes)
    if dtype is not None:
        described = described.of_dtype(check_floating(f"{function}: dtype", dtype))
    return described


def _described(function: str, model: Any, folds: bool) -> Description:
    if isinstance(model, Sequential):
        return of_network(model, folds)
    if isinstance(model, Ensemble):
        networks = [of_network(member, folds) for member in model.models]
        return together(networks, model.of, None)
    if isinstance(model, list | tuple):
        *before, last = model or (None,)
        described = _described(function, last, folds)
        maps = [step for part in before for step in of_normalizer(function, part)]
        return after(maps, described, function)
    if "sklearn" in sys.modules:
        from dlcore.export._estimators import of_estimator

        described_estimator = of_estimator(function, model, folds)
        if described_estimator is not None:
            return described_estimator
    raise TypeError(f"{function}: {type(model).__name__} has no export; {_remedy(model)}")


def _remedy(model: Any) -> str:
    if isinstance(getattr(model, "model", None), Sequential):
        return "pass its model: trainer.model"
    return (
        "it takes a Sequential, an estimator of dlcore.sklearn, a Pipeline of scalers and such an "
        "estimator, or a list of normalizers and a Sequential"
    )


def _with_output(function: str, described: Description, output: Any, classes: Any) -> Description:
    """Say what the outputs of a network mean that is no estimator's."""
    if described.output != Output() or described.feature_names or described.table is not None:
        raise ValueError(
            f"{function}: output and classes are for a Sequential; the estimator says what its "
            f"outputs mean"
        )
    if not isinstance(output, str) or output not in OUTPUTS:
        known = ", ".join(map(repr, OUTPUTS))
        given = "None with classes" if output is None else repr(output)
        raise ValueError(f"{function}: output is one of {known}, not {given}")
    width = described.out_features
    kind = "binary" if output == "sigmoid" and width == 1 else output
    if kind not in ("softmax", "binary"):
        if classes is not None:
            raise ValueError(
                f"{function}: classes are for a softmax, and for a sigmoid of one output"
            )
        return replace(described, output=Output(kind))
    if width is None:
        raise ValueError(
            f"{function}: output={output!r} needs a model of a fixed number of outputs"
        )
    count = 2 if kind == "binary" else width
    labels = as_labels(function, np.arange(count) if classes is None else classes)
    if len(labels) != count:
        raise ValueError(f"{function}: classes must have {count} labels, got {len(labels)}")
    return replace(described, output=Output(kind, (labels,)))
