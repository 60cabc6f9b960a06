"""`Sequential`: layers in a row and the one array that holds all their parameters."""

from __future__ import annotations

import math
import threading
import weakref
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import numpy.typing as npt

from dlcore._common.arrays import as_matrix, as_numbers, as_writeable
from dlcore._common.checks import check_floating
from dlcore._native.compressed_rows import as_compressed_rows, is_sparse
from dlcore.nn._inference import Inference
from dlcore.nn._layers import Layer, Linear, check_computable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dlcore._common.typing import Array

__all__ = ["Sequential"]


_IN_USE = "the model is being trained: it cannot be used by another fit or thread until that ends"

_lock = threading.Lock()


class Sequential:
    """A feed-forward network, each layer feeding the next.

    Parameters
    ----------
    *layers : Layer
        `Linear`, the activations, `BatchNorm1d`, `LayerNorm`, `RMSNorm` and `Dropout`, in order.
        Neighbors must fit.
    dtype : dtype
        float32 or float64, the dtype of the parameters, of x and of the outputs.
    seed : int, optional
        Draws the initial weights; the same seed gives the same weights, whose float32 values are
        the rounded float64 ones. None draws different ones each time.
    """

    def __init__(
        self, *layers: Layer, dtype: npt.DTypeLike = np.float32, seed: int | None = None
    ) -> None:
        _check_layers(layers)
        self._dtype = check_floating("Sequential: dtype", dtype)
        rng = np.random.default_rng(seed)
        initial = [layer._initial_parameters(rng) for layer in layers]
        self._layers = layers
        size = sum(value.size for parameters in initial for value in parameters.values())
        self._flat: Array = np.empty(size, self.dtype)
        for name, view in self._split(self._flat).items():
            layer, _, own = name.partition(".")
            view[...] = initial[int(layer)][own]
        self._trainer: int | None = None  # the thread that trains it
        self._buffers = {
            f"{i}.{name}": value.astype(self.dtype if value.dtype.kind == "f" else value.dtype)
            for i, layer in enumerate(layers)
            for name, value in layer._initial_buffers().items()
        }
        self._inference: Inference | None = None
        self._frozen: set[str] = set()
        self._bind()

    def __call__(self, x: Any) -> Array:
        """Compute the outputs for x of shape (N, in_features) and the model's dtype.

        x may be sparse: a matrix of `scipy.sparse`, or one with the attributes of its CSR matrices.
        """
        inference = self._inference
        if inference is not None and self._trainer is None:
            y = inference.try_call(x)
            if y is not None:
                return y
        read = as_compressed_rows if is_sparse(x) else as_matrix
        x = read(x, "x", self.dtype, self.in_features)
        if self._trainer not in (None, threading.get_ident()):
            raise RuntimeError(_IN_USE)
        if inference is None or inference.width != x.shape[1]:
            inference = self._inference = Inference(self.layers, self.dtype, x.shape[1])
        return inference(x)

    def _try_finite(self, x: Any) -> Array | None:
        """Compute the outputs for an array as it should be, without NaN and infinities.

        None for any other, and before the model was called for the first time: a way without checks
        in Python, to be followed by one with them.
        """
        inference = self._inference
        return None if inference is None or self._trainer else inference.try_call(x, True)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers, in order."""
        return self._layers

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the parameters, of x and of the outputs."""
        return self._dtype

    @property
    def flat(self) -> Array:
        """All parameters in one 1-D array, of which those of the layers are views.

        ``model.flat[...] = values`` changes them; another array cannot take its place.
        """
        return self._flat

    @flat.setter
    def flat(self, values: object) -> None:
        if values is not self._flat:  # as after model.flat += 1
            raise AttributeError(
                "model.flat cannot be assigned: the layers are views of this array; "
                "model.flat[...] = values changes the parameters"
            )

    @property
    def in_features(self) -> int | None:
        """Features that x must have; None if any number will do."""
        return next((n.in_features for n in self.layers if n.in_features is not None), None)

    @property
    def out_features(self) -> int | None:
        """Features of the outputs; None if as many as those of x."""
        widths = (n.out_features for n in reversed(self.layers))
        return next((width for width in widths if width is not None), None)

    def parameters(self, *names: str) -> list[Array]:
        """Return the parameters themselves, not copies, in the order of ``state_dict``.

        Parameters
        ----------
        *names : str
            Layers ("0") or parameters ("2.weight") to return; all if none is named.

        Raises
        ------
        ValueError
            The model has no parameter of that name.
        """
        own = self.named_parameters()
        if not names:
            return list(own.values())
        matches = {name: self._matching(name) & own.keys() for name in names}
        for name, found in matches.items():
            if not found:
                raise ValueError(f"the model has no parameter {name!r}, only {', '.join(own)}")
        wanted = set().union(*matches.values())
        return [value for name, value in own.items() if name in wanted]

    def named_parameters(self) -> dict[str, Array]:
        """Return the parameters themselves, not copies, by name."""
        return self._split(self.flat)

    @overload
    def sparsity(self, by_layer: Literal[False] = False) -> float: ...
    @overload
    def sparsity(self, by_layer: Literal[True]) -> dict[str, float]: ...
    def sparsity(self, by_layer: bool = False) -> float | dict[str, float]:
        """Return the share of the weights of `Linear` layers, without biases, that are exactly 0.

        Parameters
        ----------
        by_layer : bool
            Whether to return the share of each layer, by its name ("0"), instead of that of all
            weights together, which is 0.0 without a `Linear` layer.
        """
        weights = {str(i): n.weight for i, n in enumerate(self.layers) if isinstance(n, Linear)}
        zeros = {name: weight.size - np.count_nonzero(weight) for name, weight in weights.items()}
        if by_layer:
            return {name: float(zeros[name] / weight.size) for name, weight in weights.items()}
        return float(sum(zeros.values()) / max(1, sum(weight.size for weight in weights.values())))

    def _split(self, flat: Array) -> dict[str, Array]:
        """Split an array laid out as ``model.flat`` into a view for each parameter, by name."""
        views, start = {}, 0
        for i, layer in enumerate(self.layers):
            for name, shape in layer._parameter_shapes.items():
                stop = start + math.prod(shape)
                views[f"{i}.{name}"] = layer._parameter_of(name, flat[start:stop])
                start = stop
        return views

    def state_dict(self) -> dict[str, Array]:
        """Copy the parameters and running statistics, under PyTorch's names: ``0.weight`` of shape (out, in), ...

        PyTorch's are no copies; these are, so that training on does not change them.
        """
        return {name: value.copy() for name, value in self._named_arrays().items()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Take over parameters, such as those of ``state_dict()`` here or in PyTorch.

        Parameters
        ----------
        state : mapping of str to array
            Arrays of the model's dtype by name.
        strict : bool
            If False, names that are missing or unknown are passed over.

        Raises
        ------
        ValueError
            Names or shapes do not match; all that do not are listed.
        TypeError
            An array has another dtype.

        In both cases the model is as it was before.
        """
        own = self._named_arrays()
        given = {n: as_numbers(value, f"load_state_dict: {n}") for n, value in state.items()}
        shared = [name for name in own if name in given]
        wrong = [
            f"{name} has shape {given[name].shape}, the model's {own[name].shape}"
            for name in shared
            if given[name].shape != own[name].shape
        ]
        if strict:
            wrong += [f"{name} is missing" for name in own if name not in given]
            wrong += [f"{name} is not in the model" for name in given if name not in own]
        if wrong:
            raise ValueError("load_state_dict: " + "; ".join(wrong))
        for name in shared:
            if given[name].dtype != own[name].dtype:
                raise TypeError(
                    f"load_state_dict: {name} is {given[name].dtype}, the model {own[name].dtype}"
                )
        self._make_writeable()
        own = self._named_arrays()
        for name in shared:
            own[name][...] = given[name]

    @property
    def frozen(self) -> frozenset[str]:
        """Names of the parameters and running statistics that training leaves as they are."""
        return frozenset(self._frozen)

    def freeze(self, name: str) -> None:
        """Keep a parameter ("0.weight") or a layer ("0") from being trained.

        What is frozen does not change by a single bit, and layers below the first one that learns
        cost no way back. A frozen `BatchNorm1d` normalizes by its running statistics in training,
        too, and leaves them as they are.

        Raises ValueError for a name that the model does not have.
        """
        self._frozen |= self._matching(name)

    def unfreeze(self, name: str) -> None:
        """Train a frozen parameter ("0.weight") or layer ("0") again."""
        self._frozen -= self._matching(name)

    def _matching(self, name: str) -> set[str]:
        names = self._named_arrays()
        found = {n for n in names if n == name or n.startswith(f"{name}.")}
        if not found:
            raise ValueError(f"the model has no parameter {name!r}, only {', '.join(names)}")
        return found

    @contextmanager
    def _in_training(self) -> Iterator[None]:
        """Keep others from training the model, and other threads from using it, meanwhile."""
        with _lock:
            if self._trainer is not None:
                raise RuntimeError(_IN_USE)
            self._trainer = threading.get_ident()
        try:
            yield
        finally:
            self._trainer = None

    def _named_arrays(self) -> dict[str, Array]:
        """Return parameters and buffers, layer by layer."""
        parameters = self.named_parameters()
        return {
            f"{i}.{name}": parameters.get(f"{i}.{name}", self._buffers.get(f"{i}.{name}"))  # type: ignore[misc]
            for i, layer in enumerate(self.layers)
            for name in (*layer._parameter_shapes, *layer._buffer_shapes)
        }

    def _make_writeable(self) -> None:
        """Copy what is to be trained where it cannot be written, such as a read-only map of a file.

        Until then all processes that load the file share its memory.
        """
        arrays = [self._flat, *self._buffers.values()]
        if all(array.flags.writeable for array in arrays):
            return
        self._flat = as_writeable(self._flat)
        self._buffers = {name: as_writeable(value) for name, value in self._buffers.items()}
        self._bind()

    def _describe_anew(self) -> None:
        """Let go of what inference was described by, after an option of a layer was set."""
        self._inference = None

    def _bind(self) -> None:
        own = weakref.ref(self)
        views = self._split(self.flat)
        for i, layer in enumerate(self.layers):
            arrays = {name: views[f"{i}.{name}"] for name in layer._parameter_shapes}
            arrays |= {name: self._buffers[f"{i}.{name}"] for name in layer._buffer_shapes}
            layer._bind(arrays, own)
        # Made for the features of the first x; it reads the arrays that the layers hold now.
        self._inference = None

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, index: int) -> Layer:
        return self.layers[index]

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_inference": None, "_trainer": None}

    # A copy's layers must be views on the copy's array.
    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._bind()

    def __repr__(self) -> str:
        lines = [f"  ({i}): {layer!r}" for i, layer in enumerate(self.layers)]
        header = f"Sequential(  # {self.flat.size:,} parameters, {self.dtype}"
        return "\n".join([header, *lines, ")"])


def _check_layers(layers: tuple[Layer, ...]) -> None:
    if not layers:
        raise ValueError("Sequential needs at least one layer")
    for layer in layers:
        if not isinstance(layer, Layer):
            raise TypeError(f"Sequential takes layers such as Linear(4, 3), not {layer!r}")
        check_computable(layer)
        if layer._is_bound or (layer._parameter_shapes and sum(n is layer for n in layers) > 1):
            raise ValueError(f"{layer!r} is already part of a model; every place needs its own")
    of_fixed_width = [(i, n) for i, n in enumerate(layers) if n.in_features is not None]
    for (i, layer), (j, following) in pairwise(of_fixed_width):
        if layer.out_features != following.in_features:
            raise ValueError(
                f"layer {j}, {following!r}, takes {following.in_features} features, "
                f"but layer {i}, {layer!r}, gives {layer.out_features}"
            )
