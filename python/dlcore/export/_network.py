"""The description of a network: its layers as steps, branches and members within them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore.export import _steps as kinds
from dlcore.export._description import Description, Output
from dlcore.nn import _layers as nn
from dlcore.nn import _members, _numbers
from dlcore.nn._embeddings import CategoricalEmbeddings, CategoryLayer, OneHotLinear
from dlcore.nn._featurewise import ParametricActivation, PReLU, Scale
from dlcore.nn._parallel import Branches
from dlcore.nn._transfer import fold_batch_norm

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from dlcore._common.typing import Array
    from dlcore.nn._sequential import Sequential

_Steps = tuple[kinds.Step, ...]


def of_network(model: Sequential, folds: bool = False) -> Description:
    """Describe a network, without its dropout, which does nothing outside of training."""
    if folds:
        model = fold_batch_norm(model)
    steps, members = _Layers(model.dtype).in_a_row(model.layers, model.in_features or 0)
    if members > 1:
        raise TypeError(
            f"a network of {members} members has no export where they do not end in EnsembleMean: "
            f"append one"
        )
    return Description(steps, model.dtype, model.in_features, model.out_features, Output())


def together(
    networks: Sequence[Description], mean_of: str, widths: Sequence[int] | None
) -> Description:
    """Describe several networks over the same rows by the mean of what they give."""
    branches = tuple(kinds.Branch(None, own.steps) for own in networks)
    return replace(networks[0], steps=(kinds.Branches(branches, mean_of, tuple(widths or ())),))


class _Layers:
    """Makes steps of layers with arrays of a dtype."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._dtype = dtype

    def in_a_row(
        self, layers: Iterable[nn.Layer], width: int, members: int = 1
    ) -> tuple[_Steps, int]:
        """Return the steps of layers one after the other, and of how many members rows are then."""
        steps: list[kinds.Step] = []
        of_members: list[kinds.Step] = []
        began_before = members > 1
        for layer in layers:
            before, members = members, layer._members_after(members)
            if isinstance(layer, _members.EnsembleMean):
                if began_before:
                    raise TypeError(
                        f"{layer!r} in a branch has no export where members began before the branch"
                    )
                steps.append(kinds.Members(before, tuple(of_members), layer.of))
                of_members = []
                continue
            own = self._steps(layer, width, before)
            (of_members if members > 1 else steps).extend(own)
            width = width if layer.out_features is None else layer.out_features
        return (*steps, *of_members), members

    def _steps(self, layer: nn.Layer, width: int, members: int) -> Iterator[kinds.Step]:
        if isinstance(layer, nn.Linear):
            weight = np.array(layer.weight * self._dtype.type(layer._factor), order="C")
            yield kinds.Linear(weight, self._or_constant(layer.bias, 0, layer.out_features))
        elif isinstance(layer, nn.Normalization):
            yield self._normalization(layer)
        elif isinstance(layer, Scale):
            yield kinds.Affine(layer.weight.copy(), np.zeros_like(layer.weight))
        elif isinstance(layer, PReLU):
            yield kinds.PReLU(layer.weight.copy())
        elif isinstance(layer, ParametricActivation):
            function = layer._function
            activation = kinds.Activation(function.kernel, function.options)
            yield kinds.Parametric(activation, layer.weight.copy())
        elif isinstance(layer, CategoryLayer | CategoricalEmbeddings):
            yield self._categories(layer)
        elif isinstance(layer, Branches):
            yield self._branches(layer, width, members)
        elif isinstance(layer, _members.MemberLayer):
            yield from self._of_members(layer)
        elif isinstance(layer, _numbers.OfFeatures):
            yield self._of_features(layer)
        elif isinstance(layer, _numbers.Missing):
            yield kinds.Missing(layer.indicates)
        elif isinstance(layer, nn.Activation):
            yield kinds.Activation(layer.kernel, layer.options)
        elif not isinstance(layer, nn.Dropout):
            raise TypeError(f"{layer!r} has no export")

    def _normalization(self, layer: nn.Normalization) -> kinds.Step:
        features = layer.in_features
        weight = self._or_constant(layer.weight, 1, features)
        bias = self._or_constant(layer.bias, 0, features)
        if isinstance(layer, nn.BatchNorm1d):
            mean, var = layer.running_mean.copy(), layer.running_var.copy()
            return kinds.BatchNorm(mean, var, layer.eps, weight, bias)
        eps = np.finfo(self._dtype).eps if layer.eps is None else layer.eps
        return kinds.RowNorm(isinstance(layer, nn.LayerNorm), float(eps), weight, bias)

    def _branches(self, layer: Branches, width: int, members: int) -> kinds.Branches:
        made = []
        for start, stop, own in layer._branches(width):
            steps, _ = self.in_a_row(own.values(), stop - start, members)
            made.append(kinds.Branch(None if (start, stop) == (0, width) else (start, stop), steps))
        return kinds.Branches(tuple(made), "sum" if layer._is_sum else "concat")

    def _of_members(self, layer: _members.MemberLayer) -> Iterator[kinds.Step]:
        """Give steps with arrays of each member; a single one is like a network without members."""

        def own(values: Array | None, otherwise: float = 0) -> Array:
            shape = (layer.k, layer.out_features)
            values = np.full(shape, otherwise, self._dtype) if values is None else values
            return np.array(values if layer.k > 1 else values[0], order="C")

        if isinstance(layer, _members.LinearEnsemble):
            yield kinds.Linear(own(layer.weight), own(layer._bound.get("bias")))
        elif isinstance(layer, _members.LinearBatchEnsemble):
            zeros = np.zeros(layer.out_features, self._dtype)
            r, bias = own(layer.r), own(layer._bound.get("bias"))
            yield kinds.Affine(r, np.zeros_like(r))
            yield kinds.Linear(layer.weight.copy(), zeros)
            yield kinds.Affine(own(layer.s), bias)
        else:
            assert isinstance(layer, _members.ScaleEnsemble)
            weight = own(layer.weight)
            yield kinds.Affine(weight, np.zeros_like(weight))

    def _of_features(self, layer: _numbers.OfFeatures) -> kinds.Step:
        n = layer.n_features
        if isinstance(layer, _numbers.PiecewiseLinear):
            return kinds.Piecewise(*layer.arrays())
        weight, bias = layer.weight, layer.bias
        if isinstance(layer, _numbers.Periodic):
            return kinds.Periodic(weight.copy(), None if bias is None else bias.copy())
        if isinstance(layer, _numbers.NLinear):
            is_shared = layer.is_shared
            weight = weight.T[np.newaxis] if is_shared else weight
        else:
            is_shared, weight = False, weight[:, np.newaxis]
        shape = (1 if is_shared else n, layer.out_features // n)
        bias = np.zeros(shape, self._dtype) if bias is None else bias.reshape(shape)
        return kinds.FeatureLinear(n, np.array(weight, order="C"), bias.copy())

    def _categories(self, layer: CategoryLayer | CategoricalEmbeddings) -> kinds.Categories:
        numbers: list[int] = []
        bias = None
        if isinstance(layer, CategoricalEmbeddings):
            columns = layer.columns
            numbers = [c for c in range(layer.in_features or 0) if c not in columns]
            tables = [own.weight for own in layer._embeddings]
        else:
            columns = [*range(len(layer._sizes))]
            tables = [layer.weight]
        if isinstance(layer, OneHotLinear):
            sizes = np.array(layer._sizes) + (layer.missing == "category")
            tables = np.split(layer.weight.T, np.cumsum(sizes)[:-1])
            bias = self._or_constant(layer.bias, 0, layer.out_features)
        if layer.missing == "zeros":
            tables = [np.vstack([table, np.zeros_like(table[:1])]) for table in tables]
        copied = tuple(np.array(table, order="C") for table in tables)
        has_missing = layer.missing != "error"
        return kinds.Categories(tuple(numbers), tuple(columns), copied, bias, has_missing)

    def _or_constant(self, values: Array | None, otherwise: float, width: Any) -> Array:
        return np.full(width, otherwise, self._dtype) if values is None else values.copy()
