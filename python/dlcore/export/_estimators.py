"""Descriptions of scikit-learn's pipelines, scalers and perceptrons: imported where there is one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn import preprocessing
from sklearn.base import BaseEstimator
from sklearn.compose import TransformedTargetRegressor
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from dlcore import sklearn as own
from dlcore.export._description import Description, Output, after
from dlcore.export._labels import as_labels
from dlcore.export._network import of_network, together
from dlcore.export._steps import Columns
from dlcore.export._tables import of_tabular
from dlcore.sklearn._members import OF_ACTIVATION

if TYPE_CHECKING:
    from dlcore._common.typing import Array


def of_estimator(function: str, estimator: Any, folds: bool) -> Description | None:
    """Describe an estimator or a pipeline that ends in one; None for what is no estimator."""
    if isinstance(estimator, own.MLPClassifier | own.MLPRegressor):
        check_is_fitted(estimator, "model_")
        described: Description = estimator._answer(lambda est: _of_network(function, est, folds))
        return described
    if isinstance(estimator, own.TabularClassifier | own.TabularRegressor):
        return of_tabular(function, estimator, folds)
    if isinstance(estimator, TransformedTargetRegressor):
        return _of_transformed_target(function, estimator, folds)
    if isinstance(estimator, Pipeline):
        check_is_fitted(estimator)
        *before, last = (step for _, step in estimator.steps if step not in (None, "passthrough"))
        inner = of_estimator(function, last, folds)
        if inner is None:
            raise TypeError(f"{function}: {last!r}, the last step of the pipeline, is no estimator")
        width = inner.in_features
        if before and inner.table is not None:
            raise TypeError(
                f"{function}: {type(last).__name__} has an export where no step of a pipeline comes "
                f"before it, not after {type(before[-1]).__name__}"
            )
        columns = [of_scaler(function, step, inner.dtype, width) for step in before]
        names = getattr(estimator, "feature_names_in_", None) if before else None
        names = inner.feature_names if names is None else tuple(map(str, names))
        return replace(after(columns, inner, function), feature_names=names)
    if not isinstance(estimator, BaseEstimator):
        return None
    name = type(estimator).__name__
    if is_scaler(estimator):
        raise TypeError(f"{function}: {name} alone has no export; pass the pipeline it begins")
    if hasattr(estimator, "best_estimator_"):
        raise TypeError(f"{function}: {name} has no export; pass its best_estimator_")
    raise TypeError(
        f"{function}: {name} has no export; it takes MLPClassifier and MLPRegressor of "
        f"dlcore.sklearn, after StandardScaler and MinMaxScaler. {_by_skl2onnx(name)}"
    )


def _by_skl2onnx(name: str) -> str:
    return (
        f"Where skl2onnx knows {name}, call dlcore.register_skl2onnx() and then skl2onnx.to_onnx()"
    )


def is_scaler(step: Any) -> bool:
    """Whether a step has an export, dlcore's or scikit-learn's own."""
    return isinstance(step, preprocessing.StandardScaler | preprocessing.MinMaxScaler)


def of_scaler(
    function: str, scaler: Any, dtype: np.dtype[Any], width: int | None, *, inverse: bool = False
) -> Columns:
    """Return the step that a fitted scaler is for rows of a dtype, or its inverse."""
    name = type(scaler).__name__
    if not is_scaler(scaler):
        raise TypeError(
            f"{function}: {name} has no export; before the network go StandardScaler and "
            f"MinMaxScaler. {_by_skl2onnx(name)}"
        )
    check_is_fitted(scaler)
    columns = int(scaler.n_features_in_) if width is None else width
    if scaler.n_features_in_ != columns:
        raise ValueError(
            f"{function}: {name} has {scaler.n_features_in_} columns, but what follows takes "
            f"{columns} features"
        )
    if isinstance(scaler, own.StandardScaler | own.MinMaxScaler):
        column_map = scaler._backward(columns) if inverse else scaler._forward(columns)
        if column_map is not None:
            return Columns.of(column_map, f"{function}: the {name}")
    return _of_attributes(scaler, dtype, columns, inverse)


def _of_attributes(scaler: Any, dtype: np.dtype[Any], columns: int, inverse: bool) -> Columns:
    """Return what scikit-learn computes; a mean is rounded to the dtype of the rows before."""
    zeros, ones = np.zeros(columns), np.ones(columns)
    if isinstance(scaler, preprocessing.MinMaxScaler):
        if inverse:
            return Columns(_float64(scaler.min_), 1 / _float64(scaler.scale_), zeros)
        low, high = scaler.feature_range if scaler.clip else (-np.inf, np.inf)
        return Columns(zeros, _float64(scaler.scale_), _float64(scaler.min_), low, high)
    mean = scaler.mean_.astype(dtype) if scaler.with_mean else zeros
    scale = scaler.scale_.astype(dtype) if scaler.with_std else ones
    if inverse:
        return Columns(zeros, _float64(scale), _float64(mean))
    return Columns(_float64(mean), 1 / _float64(scale), zeros)


def _float64(values: Any) -> Array:
    return np.asarray(values, np.float64)


def _of_network(function: str, estimator: Any, folds: bool) -> Description:
    described = of_network(estimator._network(), folds)
    if estimator._has_members:
        networks = [of_network(member._network(), folds) for member in estimator.estimators_]
        widths = estimator._widths() if getattr(estimator, "_has_many_targets", False) else None
        described = together(networks, OF_ACTIVATION[estimator.out_activation_], widths)
    names = getattr(estimator, "feature_names_in_", ())
    return replace(
        described,
        output=_output(function, estimator),
        feature_names=tuple(map(str, names)),
    )


def _output(function: str, estimator: Any) -> Output:
    if isinstance(estimator, own.MLPRegressor):
        clip, bounds = None, estimator._bounds()
        if bounds is not None:
            zeros = np.zeros(estimator.n_outputs_)
            clip = Columns(zeros, zeros + 1, zeros, *bounds)
        if not estimator._has_many_quantiles:
            return Output(estimator.out_activation_, restore=clip)
        order = np.argsort(estimator.quantile, kind="stable")
        return Output("quantiles", places=np.argsort(order, kind="stable"), restore=clip)
    if estimator._has_many_targets:
        targets = tuple(as_labels(function, classes) for classes in estimator.classes_)
        return Output("softmax", targets)
    if estimator.out_activation_ == "softmax":
        return Output("softmax", (as_labels(function, estimator.classes_),))
    if estimator.n_outputs_ > 1:
        return Output("sigmoid")
    # Of a single class there is no other.
    both = estimator.classes_.take([0, 1], mode="clip")
    return Output("binary", (as_labels(function, both),))


def _of_transformed_target(function: str, estimator: Any, folds: bool) -> Description:
    check_is_fitted(estimator)
    inner = of_estimator(function, estimator.regressor_, folds)
    transformer = estimator.transformer_
    is_other = inner is None or inner.output.is_class or inner.table is not None
    if inner is None or is_other or estimator.func is not None:
        raise TypeError(
            f"{function}: TransformedTargetRegressor has an export with StandardScaler or "
            f"MinMaxScaler as transformer and dlcore's MLPRegressor, not with functions"
        )
    restore = of_scaler(function, transformer, inner.dtype, None, inverse=True)
    if len(restore.add) == 1:  # of all outputs, such as several quantiles
        parts = (restore.subtract, restore.multiply, restore.add)
        subtract, multiply, add = (np.repeat(part, inner.out_features or 1) for part in parts)
        restore = Columns(subtract, multiply, add)
    clip = inner.output.restore
    if clip is not None:  # values of targets that were transformed
        low, high = (
            (bound - restore.subtract) * restore.multiply + restore.add
            for bound in (clip.low, clip.high)
        )
        restore = replace(restore, low=low, high=high)
    return replace(inner, output=replace(inner.output, restore=restore))
