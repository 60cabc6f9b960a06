"""Inference of a feed-forward network, which runs in C++, and the description of its layers."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._common.arrays import as_matrix, as_stored
from dlcore._native import dispatch
from dlcore._native.compressed_rows import CompressedRows, as_compressed_rows, is_sparse
from dlcore._native.specs import (
    ActivationSpec,
    BatchNormSpec,
    BranchSpec,
    DropoutSpec,
    EmbeddingSpec,
    FeatureLinearSpec,
    LayerNormSpec,
    LinearSpec,
    MemberLinearSpec,
    MemberMeanSpec,
    MemberScaleSpec,
    MissingSpec,
    ParallelSpec,
    ParametricActivationSpec,
    PeriodicSpec,
    PiecewiseLinearSpec,
)
from dlcore.nn._codes import check_codes
from dlcore.nn._embeddings import CategoryLayer, OneHotLinear
from dlcore.nn._featurewise import ParametricActivation, PReLU, Scale
from dlcore.nn._layers import (
    Activation,
    BatchNorm1d,
    Dropout,
    LayerNorm,
    Linear,
    RMSNorm,
    is_own,
)
from dlcore.nn._members import EnsembleMean, LinearBatchEnsemble, LinearEnsemble, MemberLayer
from dlcore.nn._numbers import Missing, NLinear, OfFeatures, Periodic, PiecewiseLinear
from dlcore.nn._own_layers import describe_own
from dlcore.nn._parallel import Branches

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from dlcore._common.typing import Array
    from dlcore._native.specs import CompressedRowsSpec, LayerSpec
    from dlcore.nn._layers import Layer

# Values of sparse rows that are dense at once: 32 MiB of float32.
_DENSE_VALUES = 2**23


def reads_sparse(layers: Sequence[Layer]) -> bool:
    """Whether layers take sparse rows alone."""
    return isinstance(layers[0], Linear) and layers[0]._is_input_major


def describe(
    layers: Sequence[Layer],
    width: int,
    frozen: Collection[str] = (),
    grads: Mapping[str, Array] | None = None,
    *,
    sparse: bool = False,
) -> tuple[LayerSpec, ...]:
    """Describe layers to the native network.

    Parameters
    ----------
    layers : sequence of Layer
    width : int
        Features that they take.
    frozen : collection of str
        Names of the parameters and running statistics that training leaves as they are.
    grads : mapping of str to ndarray, optional
        Where the gradients of the parameters go that are trained, by their names.
    sparse : bool
        Whether they take sparse rows, which a linear layer reads as they are.
    """
    names = {str(i): layer for i, layer in enumerate(layers)}
    return _Description(frozen, grads).of(names, width, sparse=sparse)


class _Description:
    """Describes layers one after the other, and those of branches within them."""

    def __init__(self, frozen: Collection[str], grads: Mapping[str, Array] | None) -> None:
        self._frozen, self._grads = frozen, grads
        self._count = 0  # of the layers so far
        self._members = 1  # that rows are of

    def of(self, layers: Mapping[str, Layer], width: int, sparse: bool = False) -> tuple[Any, ...]:
        """Describe layers in a row, by their names."""
        specs: list[LayerSpec] = []
        for name, layer in layers.items():
            if isinstance(layer, MemberLayer | EnsembleMean):
                specs += self._of_members(name, layer, width)
            elif isinstance(layer, Linear):
                specs += self._of_linear(name, layer, sparse and not specs)
            else:
                specs.append(self._of_layer(name, layer, width))
            if layer.out_features is not None:
                width = layer.out_features
        return tuple(specs)

    def _of_linear(self, name: str, layer: Linear, sparse: bool) -> list[LayerSpec]:
        self._count += len(layer._native_names)
        grads: Mapping[str, Array] = self._grads or {}
        weight_grad, bias_grad = grads.get(f"{name}.weight"), grads.get(f"{name}.bias")
        of_product = LinearSpec(
            layer.in_features,
            layer.out_features,
            as_stored(layer.weight),
            layer.bias,
            max_norm=layer.max_norm or 0.0,
            weight_grad=None if weight_grad is None else as_stored(weight_grad),
            bias_grad=bias_grad,
            reads_sparse=sparse or layer._is_input_major,
            is_input_major=layer._is_input_major,
        )
        if not layer._is_ntk:
            return [of_product]
        outs = layer.out_features
        factors = np.full(outs, layer._factor, layer.weight.dtype)
        scaled = MemberScaleSpec(outs, 1, factors, layer.bias, False, bias_grad=bias_grad)
        return [of_product._replace(bias=None, bias_grad=None), scaled]

    def _of_layer(self, name: str, layer: Layer, width: int) -> LayerSpec:
        if isinstance(layer, Branches):
            return self._of_branches(name, layer, width)
        number, self._count = self._count, self._count + len(layer._native_names)
        grads: Mapping[str, Array] = self._grads or {}
        if is_own(layer):
            return describe_own(layer, name, width, grads)
        weight_grad, bias_grad = grads.get(f"{name}.weight"), grads.get(f"{name}.bias")
        if isinstance(layer, Scale):
            return MemberScaleSpec(width, 1, layer.weight, None, False, weight_grad=weight_grad)
        if isinstance(layer, OfFeatures):
            return _describe_of_features(layer, weight_grad, bias_grad)
        if isinstance(layer, Missing):
            return MissingSpec(width, layer.indicates)
        if isinstance(layer, ParametricActivation):
            function = _describe_activation(layer._function, width)
            return ParametricActivationSpec(width, False, layer.weight, function, weight_grad)
        if isinstance(layer, PReLU):
            is_shared = layer.num_parameters == 1
            return ParametricActivationSpec(width, is_shared, layer.weight, None, weight_grad)
        if isinstance(layer, BatchNorm1d):
            return BatchNormSpec(
                width,
                layer.weight,
                layer.bias,
                eps=layer.eps,
                momentum=layer.momentum,
                running_mean=layer.running_mean,
                running_var=layer.running_var,
                num_batches_tracked=layer.num_batches_tracked,
                # Inference reads the statistics, which may be those of a read-only file.
                is_frozen=self._grads is None or f"{name}.running_mean" in self._frozen,
                weight_grad=weight_grad,
                bias_grad=bias_grad,
            )
        if isinstance(layer, LayerNorm | RMSNorm):
            return LayerNormSpec(
                width,
                layer.weight,
                layer.bias,
                eps=layer.eps,
                is_centered=isinstance(layer, LayerNorm),
                weight_grad=weight_grad,
                bias_grad=bias_grad,
            )
        if isinstance(layer, Dropout):
            return DropoutSpec(width, layer.p, stream=number)
        if isinstance(layer, CategoryLayer):
            is_sum = isinstance(layer, OneHotLinear)
            return EmbeddingSpec(
                layer.out_features,
                layer._sizes,
                as_stored(layer.weight),
                layer.bias if isinstance(layer, OneHotLinear) else None,
                layer.missing,
                is_sum,
                weight_grad=None if weight_grad is None else as_stored(weight_grad),
                bias_grad=bias_grad,
            )
        assert isinstance(layer, Activation)
        return _describe_activation(layer, width)

    def _of_members(
        self, name: str, layer: MemberLayer | EnsembleMean, width: int
    ) -> list[LayerSpec]:
        before, self._members = self._members, layer._members_after(self._members)
        self._count += len(layer._native_names)
        if isinstance(layer, EnsembleMean):
            return [MemberMeanSpec(width, before, layer.of)]
        grads: Mapping[str, Array] = self._grads or {}

        def both(own: str) -> tuple[Array | None, Array | None]:
            grad = grads.get(f"{name}.{own}")
            if own not in layer._parameter_shapes:
                return None, None
            stored = as_stored(layer._bound[own])
            return stored, None if grad is None else as_stored(grad)

        k, expands, bias = layer.k, before == 1, both("bias")
        weight: Any = both("weight")
        if isinstance(layer, LinearEnsemble):
            outs = layer.out_features
            return [
                MemberLinearSpec(width, outs, k, weight[0], bias[0], expands, weight[1], bias[1])
            ]
        if not isinstance(layer, LinearBatchEnsemble):
            return [MemberScaleSpec(width, k, weight[0], None, expands, weight[1])]
        r, s, outs = both("r"), both("s"), layer.out_features
        return [
            MemberScaleSpec(width, k, r[0], None, expands, r[1]),
            LinearSpec(width, outs, weight[0], None, weight_grad=weight[1]),
            MemberScaleSpec(outs, k, s[0], bias[0], False, s[1], bias[1]),
        ]

    def _of_branches(self, name: str, layer: Branches, width: int) -> ParallelSpec:
        branches, before = [], self._members
        for begin, end, own in layer._branches(width):
            self._members = before
            named = {f"{name}.{start}": child for start, child in own.items()}
            branches.append(BranchSpec(begin, end, self.of(named, end - begin)))
        return ParallelSpec(width, tuple(branches), layer._is_sum)


def _describe_of_features(
    layer: OfFeatures, weight_grad: Array | None, bias_grad: Array | None
) -> LayerSpec:
    n = layer.n_features
    if isinstance(layer, PiecewiseLinear):
        return PiecewiseLinearSpec(n, layer.d_out, *layer.arrays())
    if isinstance(layer, Periodic):
        return PeriodicSpec(
            n, layer.n_frequencies, layer.weight, layer.bias, weight_grad, bias_grad
        )
    is_shared = isinstance(layer, NLinear) and layer.is_shared
    own_in, own_out = layer.in_features // n, layer.out_features // n
    return FeatureLinearSpec(
        n, own_in, own_out, layer.weight, layer.bias, is_shared, weight_grad, bias_grad
    )


def _describe_activation(layer: Activation, width: int) -> ActivationSpec:
    options = dict(layer.options)
    tanh = options.pop("approximate", "none") == "tanh"
    kernel = f"{layer.kernel}_tanh" if tanh else layer.kernel
    return ActivationSpec(width, kernel, tuple(map(float, options.values())))


class Inference:
    """Computes the outputs of layers, block by block of rows, each through all layers.

    Parameters
    ----------
    layers : sequence of Layer
    dtype : dtype
    width : int
        Features of x.
    is_fixed : bool
        Whether the parameters stay as they are, and can be kept in the order in which products read
        them.
    """

    def __init__(
        self, layers: Sequence[Layer], dtype: np.dtype[Any], width: int, is_fixed: bool = False
    ) -> None:
        self.width = width
        self._layers, self._dtype = layers, dtype
        self._of_sparse: Callable[[CompressedRowsSpec], Array] | None = None
        # f(x, finite=False): the outputs, or None unless x is an array as it should be, and finite
        # if that is asked for. It is a single call, since checks in Python take longer than all
        # that there is to do for a single row.
        self.try_call: Callable[..., Array | None] = dispatch.core.Network(
            dtype == np.float64, describe(layers, width), is_fixed
        ).infer

    def __call__(self, x: Array | CompressedRows) -> Array:
        """Compute the outputs for x of shape (N, features), in a new array."""
        if reads_sparse(self._layers) and not isinstance(x, CompressedRows):
            x = CompressedRows.of(x)
        if isinstance(x, CompressedRows):
            return self._call_sparse(x)
        y = self.try_call(np.asarray(x))  # without its class, such as that of a memmap
        if y is None:
            y = self.try_call(np.array(x, order="C", subok=False))
        if y is None:
            check_codes(self._layers, x)
        assert y is not None
        return y

    def _call_sparse(self, x: CompressedRows) -> Array:
        if not isinstance(self._layers[0], Linear):  # which computes with what is 0 as well
            step = max(1, _DENSE_VALUES // max(1, self.width))
            starts = range(0, max(1, x.shape[0]), step)
            return np.concatenate([self(x[start : start + step].toarray()) for start in starts])
        if self._of_sparse is None:
            layers = describe(self._layers, self.width, sparse=True)
            self._of_sparse = dispatch.core.Network(self._dtype == np.float64, layers).infer_sparse
        return self._of_sparse(x.spec)


class Snapshot:
    """The outputs of a model as it was when this was made, whatever becomes of it.

    `Sequential.snapshot` makes one. It can be called by several threads at once, and pickled.

    Attributes
    ----------
    dtype : dtype
        Of x and of the outputs.
    in_features, out_features : int or None
        As those of the model.
    """

    def __init__(self, model: Any) -> None:
        self._model = copy.deepcopy(model)
        self.dtype: np.dtype[Any] = model.dtype
        self.in_features: int | None = model.in_features
        self.out_features: int | None = model.out_features
        self._inference: Inference | None = None
        if self.in_features is not None:
            self._inference = self._infer(self.in_features)

    def _infer(self, width: int) -> Inference:
        return Inference(self._model.layers, self.dtype, width, is_fixed=True)

    def __call__(self, x: Any) -> Array:
        """Compute the outputs for x of shape (N, in_features) and the model's dtype."""
        inference = self._inference
        if inference is not None:
            y = inference.try_call(x)
            if y is not None:
                return y
        read = as_compressed_rows if is_sparse(x) else as_matrix
        x = read(x, "x", self.dtype, self.in_features)
        if inference is None or inference.width != x.shape[1]:
            inference = self._inference = self._infer(x.shape[1])
        return inference(x)

    def __reduce__(self) -> tuple[Any, ...]:
        return Snapshot, (self._model,)
