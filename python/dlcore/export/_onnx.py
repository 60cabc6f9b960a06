"""ONNX: a network, an estimator or a pipeline as a graph that other runtimes compute."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlcore._common.atomic import replacing
from dlcore._common.checks import check_flag, check_int
from dlcore._common.optional import require

if TYPE_CHECKING:
    from os import PathLike

__all__ = ["register_skl2onnx", "to_onnx"]

# The lowest version in which all operators that are used have the form that they have today.
LOWEST_OPSET = 13


def to_onnx(
    model: Any,
    path: str | PathLike[str] | None = None,
    *,
    output: str | None = None,
    classes: Any = None,
    dtype: Any = None,
    fold_batch_norm: bool = False,
    opset: int = LOWEST_OPSET,
) -> Any:
    """Make a model of ONNX, which ONNX Runtime and others compute; needs the library onnx.

    Parameters
    ----------
    model : Sequential, estimator, Pipeline or sequence
        A `Sequential`; a fitted `MLPClassifier` or `MLPRegressor` of `dlcore.sklearn`; a fitted
        scikit-learn `Pipeline` of `StandardScaler` and `MinMaxScaler`, dlcore's or scikit-learn's
        own, and such an estimator; a `TransformedTargetRegressor` of these; fitted normalizers
        and a `Sequential` in a list; an `Ensemble` in the place of a `Sequential`; or a fitted `TabularClassifier` or `TabularRegressor`.
    path : str or path, optional
        Where to write it: a file ending in ".onnx", which is replaced as a whole or not at all.
    output : {"identity", "softmax", "sigmoid", "exp"}, optional
        What the outputs of a `Sequential` mean. By default they are given as they are.
    classes : array_like, optional
        Labels of its classes, numbers or text: of each output of a softmax, of no and yes for a
        sigmoid of one output. By default 0, 1, 2...
    dtype : dtype, optional
        float32 or float64, of X and of the parameters; by default that of the network, which for
        estimators is that of X in `fit`. Runtimes are fastest with float32. Networks for tables have
        parameters of float32 by default, and take numbers of float64.
    fold_batch_norm : bool
        Whether `BatchNorm1d` becomes part of `Linear` layers as far as it can, as by
        `fold_batch_norm`.
    opset : int
        Version of the operators, at least 13, which has all that are needed: of ai.onnx alone, but
        for the `LabelEncoder` of ai.onnx.ml that looks texts of tables up.

    Returns
    -------
    onnx.ModelProto
        Its input is "X", of shape (batch, features) with any number of rows. The outputs have the
        names that skl2onnx gives them, without its ZipMap: "label", of shape (batch,), and
        "probabilities", of shape (batch, classes), of a classifier; "variable", of shape
        (batch, outputs), of all else. For multilabel y "label" holds 0 and 1, of shape
        (batch, outputs); for several columns of classes it has a column for each, and there are
        "probabilities_0", "probabilities_1" and so on.

        A `TabularClassifier` or a `TabularRegressor` has the one input "X" where all columns are
        numbers. Otherwise each column is an input of its name, or "x0", "x1"..., of shape (batch, 1),
        but for those without a value in `fit`: numbers, NaN where one is missing, or the texts of
        `encoder_.categories_`, empty where one is missing, such as "1" and "True" for what was a
        number or a flag. Probabilities are those at the temperature, values those in the units of y.

    Raises
    ------
    ImportError
        The package onnx is not installed.
    TypeError
        A part has no export, such as another transformer of a pipeline, a layer of your own, members
        that end in no `EnsembleMean`, or `GELU` in float64, of whose error function runtimes know
        float32 alone, or a column of dates; the message names it.
    ValueError
        A part is not fitted, an argument is out of range, parts do not fit each other, or a column of
        a table is called as an output is.
    OSError
        The file cannot be written; one that was there stays as it was.

    Notes
    -----
    Normalizers are computed in float64 and rounded once, as dlcore does. `Dropout` is left out. The
    members of an ensemble are one more axis of its products, and only what they give together is an
    output. `Periodic` takes whole turns away before it rounds: of float32 in float64.
    Outputs agree with those of `predict` to about 1e-6 of their size in float32: sums are added in
    another order.

    Examples
    --------
    >>> import dlcore as dl
    >>> model = dl.Sequential(dl.Linear(4, 8), dl.ReLU(), dl.Linear(8, 2), seed=0)
    >>> proto = dl.to_onnx(model, output="softmax", classes=["no", "yes"])  # doctest: +SKIP
    >>> [value.name for value in proto.graph.output]  # doctest: +SKIP
    ['label', 'probabilities']
    """
    onnx = require("onnx", "to_onnx()")
    fold_batch_norm = check_flag("to_onnx: fold_batch_norm", fold_batch_norm)
    check_int("to_onnx: opset", opset, LOWEST_OPSET)
    newest = onnx.defs.onnx_opset_version()
    if opset > newest:
        raise ValueError(
            f"to_onnx: opset {opset} is not known to onnx {onnx.__version__}: {newest}"
        )
    if path is not None and Path(path).suffix != ".onnx":
        raise ValueError(f"to_onnx: path must end in .onnx, not {str(path)!r}")
    from dlcore.export._onnx_graph import to_model
    from dlcore.export._pipeline import describe

    described = describe(
        "to_onnx", model, output=output, classes=classes, dtype=dtype, folds=fold_batch_norm
    )
    made = to_model(described, opset)
    if path is not None:
        with replacing(path) as file:
            file.write(made.SerializeToString())
    return made


def register_skl2onnx() -> None:
    """Tell skl2onnx of dlcore's estimators, so that it converts pipelines with them.

    After this call ``skl2onnx.to_onnx`` takes `MLPClassifier`, `MLPRegressor`, `StandardScaler` and
    `MinMaxScaler` of `dlcore.sklearn`, next to whatever it knows itself. The options of a classifier
    are `zipmap` and `output_class_labels`. To call it again changes nothing.

    Raises
    ------
    ImportError
        skl2onnx or scikit-learn is not installed.
    """
    require("sklearn", "register_skl2onnx()")
    require("skl2onnx", "register_skl2onnx()")
    from dlcore.export._skl2onnx import register

    register()
