"""Descriptions of the estimators of tables: their columns, what is made of them, their networks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from dlcore.export import _steps as kinds
from dlcore.export._description import Output, Table, TableColumn
from dlcore.export._labels import as_labels
from dlcore.export._network import of_network, together
from dlcore.export._normalizers import first_columns, of_normalizer
from dlcore.sklearn._preparation import Preparation
from dlcore.sklearn._tabular_regressor import TabularRegressor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dlcore._common.typing import Array
    from dlcore.export._description import Description
    from dlcore.sklearn._table_encoder import TableEncoder


def of_tabular(function: str, estimator: Any, folds: bool) -> Description:
    """Describe a `TabularClassifier` or a `TabularRegressor`."""
    check_is_fitted(estimator, "models_")
    encoder = estimator.encoder_
    columns = tuple(_columns(function, encoder))
    prepare = Preparation(**estimator._prepared)
    prepared = _prepared(function, prepare, encoder.cardinalities_)
    networks = [of_network(model, folds) for model in estimator.models_]
    described = networks[0]
    if len(networks) > 1:
        described = together(networks, *estimator._averaged())
    steps = described.steps
    if isinstance(estimator, TabularRegressor):
        output = _values(estimator)
    else:
        output = _classes(function, estimator)
        steps = (*steps, _temperatures(estimator))
    return replace(
        described,
        steps=steps,
        in_features=len(columns),
        output=output,
        feature_names=tuple(map(str, getattr(estimator, "feature_names_in_", ()))),
        table=Table(columns, prepared, np.dtype(np.float64)),
    )


def _columns(function: str, encoder: TableEncoder) -> Iterator[TableColumn]:
    count = len(encoder.kinds_)
    names = getattr(encoder, "feature_names_in_", [f"x{i}" for i in range(count)])
    categories = iter(encoder.categories_)
    for name, kind in zip(names, encoder.kinds_, strict=True):
        if kind == "date":
            raise TypeError(
                f"{function}: column {name!r} holds dates, which have no export, as numbers and "
                f"categories have: give what of them matters as columns of numbers"
            )
        own = tuple(next(categories)) if kind == "category" else None
        yield TableColumn(str(name), own, kind == "empty")


def _prepared(
    function: str, prepare: Preparation, cardinalities: list[int]
) -> tuple[kinds.Step, ...]:
    """Return what makes the rows of a network of numbers and codes, in float64."""
    numbers, gaps = prepare.n_numbers, len(prepare.has_gaps)
    width = numbers + len(cardinalities)
    branches = []
    if numbers:
        maps = first_columns(of_normalizer(function, prepare.normalizer), numbers)
        branches.append(kinds.Branch((0, numbers), (*maps, kinds.Missing(indicates=False))))
    if gaps:
        rows = np.zeros((2, width))
        rows[1, :numbers] = np.nan
        there, missing = _made(prepare, rows)[:, numbers : numbers + gaps]
        take = kinds.Take(tuple(prepare.has_gaps.tolist()))
        scale = kinds.Affine(missing - there, there)
        branches.append(kinds.Branch(None, (take, kinds.Missing(indicates=True), scale)))
    if cardinalities:
        branches.append(kinds.Branch(None, (_categories(prepare, cardinalities),)))
    return (kinds.Branches(tuple(branches), "concat"),)


def _categories(prepare: Preparation, cardinalities: list[int]) -> kinds.Categories:
    """Return what is made of each code: columns of 0 and 1, which may be scaled, or another code."""
    numbers = prepare.n_numbers
    dense, begin = sum(prepare.blocks), numbers + len(prepare.has_gaps)
    in_dense: list[tuple[int, Array]] = []
    in_codes: list[tuple[int, Array]] = []
    for column, (count, places) in enumerate(
        zip(cardinalities, prepare.places, strict=True), numbers
    ):
        rows = np.zeros((count, numbers + len(cardinalities)))
        rows[:, column] = np.arange(count)
        made = _made(prepare, rows)
        seen = int(places.max())
        if seen > prepare.most_one_hot:
            at = dense + len(in_codes)
            in_codes.append((column, made[:, at : at + 1]))
        else:
            stop = begin + (1 if seen <= 2 else seen)
            in_dense.append((column, made[:, begin:stop]))
            begin = stop
    columns, tables = zip(*in_dense, *in_codes, strict=True)
    return kinds.Categories((), columns, tables, bias=None, has_missing=False)


def _made(prepare: Preparation, rows: Array) -> Array:
    return prepare(rows).astype(np.float64)


def _values(estimator: TabularRegressor) -> Output:
    spread, mean = estimator._spread, estimator._mean
    bounds = estimator._bounds() or (-np.inf, np.inf)
    return Output(restore=kinds.Columns(np.zeros_like(mean), spread, mean, *bounds))


def _classes(function: str, estimator: Any) -> Output:
    if estimator._is_multilabel:
        return Output("sigmoid")
    classes = estimator.classes_ if estimator._has_many_targets else [estimator.classes_]
    return Output("softmax", tuple(as_labels(function, own) for own in classes))


def _temperatures(estimator: Any) -> kinds.Affine:
    temperatures = np.repeat(np.array(estimator.temperatures_, np.float32), estimator._widths())
    return kinds.Affine(1 / temperatures, np.zeros_like(temperatures))
