"""`Sequential`: layers in a row and the one array that holds all their parameters."""

from __future__ import annotations

import math
import threading
import weakref
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import numpy.typing as npt

from dlcore._common.arrays import as_matrix, as_numbers, as_writeable
from dlcore._common.checks import check_flag, check_floating, generator_of
from dlcore._common.ties import Tie, address
from dlcore._native.compressed_rows import as_compressed_rows, is_sparse
from dlcore.nn._chains import check_layers, leaves_of, members_after, members_in_training, widths_of
from dlcore.nn._codes import check_codes, check_sizes
from dlcore.nn._inference import Inference, Snapshot
from dlcore.nn._layers import Layer, Linear
from dlcore.nn._options import changes
from dlcore.nn._passes import Passes

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from types import TracebackType

    from dlcore._common.typing import Array

__all__ = ["Sequential"]


_IN_USE = "the model is being trained: it cannot be used by another fit or thread until that ends"

_lock = threading.Lock()


class _Use:
    """Keeps others from training a model, and other threads from using it, meanwhile."""

    __slots__ = ("thread",)

    def __init__(self) -> None:
        self.thread: int | None = None  # that trains it

    def __enter__(self) -> None:
        with _lock:
            if self.thread is not None:
                raise RuntimeError(_IN_USE)
            self.thread = threading.get_ident()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.thread = None

    def check(self) -> None:
        """Raise a RuntimeError if another thread trains it."""
        if self.thread not in (None, threading.get_ident()):
            raise RuntimeError(_IN_USE)


class Sequential:
    """A feed-forward network, each layer feeding the next.

    Parameters
    ----------
    *layers : Layer or Sequential
        `Linear`, the activations, `BatchNorm1d`, `LayerNorm`, `RMSNorm`, `Dropout`, and `Residual`
        and `Parallel`, which are made of others, in order. The first may be `Embedding` or
        `CategoricalEmbeddings`, of columns of categories.
        Neighbors must fit. A `Sequential` among them gives its layers, with their weights, and from
        then on is a part of this model, like a slice of it: an optimizer of its parameters has to
        be made after that.
    dtype : dtype
        float32 or float64, the dtype of the parameters, of x and of the outputs.
    seed : int, optional
        Draws the initial weights and what `Dropout` drops in `forward`; the same seed gives the same
        weights, whose float32 values are the rounded float64 ones. None draws different ones each
        time.

    Notes
    -----
    ``model[i]`` is a layer, and ``model[i:j]`` a model of some layers, which shares them and their
    arrays: what trains one of the two trains the other. Its layers are counted from 0. A deep copy of
    it, or an unpickled one, is a model of its own; `copy.copy` of a model is a slice of all layers.

    Copies of a model and an optimizer that are made together, such as ``copy.deepcopy((model, adam))``
    or a pickle of both, belong together as the two do: the copied optimizer updates the copied model.
    """

    # The model that this one is a part of, and its first layer there.
    _owner: Sequential | None = None
    _start = 0

    def __init__(
        self,
        *layers: Layer | Sequential,
        dtype: npt.DTypeLike = np.float32,
        seed: int | None = None,
    ) -> None:
        self._dtype = check_floating("Sequential: dtype", dtype)
        own, nested = _taken_apart(layers, self._dtype)
        shared = {i for start, model in nested for i in range(start, start + len(model))}
        _check_given(own, self._dtype, shared)
        rng = generator_of("Sequential: seed", seed)
        initial = [{} if n._is_bound else n._initial_parameters(rng) for n in own]
        size = sum(value.size for parameters in initial for value in parameters.values())
        self._flat: Array = np.empty(size, self.dtype)
        start = 0
        for layer, parameters in zip(own, initial, strict=True):
            for name, value in parameters.items():
                layer._parameter_of(name, self._flat[start : start + value.size])[...] = value
                start += value.size
        buffers = {
            f"{i}.{name}": value.astype(self.dtype if value.dtype.kind == "f" else value.dtype)
            for i, layer in enumerate(own)
            if not layer._is_bound
            for name, value in layer._initial_buffers().items()
        }
        seeds = rng.bit_generator.seed_seq.generate_state(8, np.uint64)
        self._hold(own, self._flat, buffers, set(), int(seeds[-1]))
        for start, model in nested:
            self._take_in(model, start)
        self._bind()

    def _hold(
        self,
        layers: tuple[Layer, ...],
        flat: Array,
        buffers: dict[str, Array],
        frozen: set[str],
        key: int,
    ) -> None:
        """Take layers and arrays, which `_bind` brings together; ``key`` draws what layers draw."""
        self._layers, self._widths = layers, widths_of(layers)
        self._flat, self._buffers = flat, buffers
        self._frozen, self._key = frozen, key
        self._use, self._tie = _Use(), Tie()
        self._parts: weakref.WeakSet[Sequential] = weakref.WeakSet()
        self._inference: Inference | None = None
        self._passes: Passes | None = None
        self._gradient: Array | None = None

    @classmethod
    def _of_flat(
        cls,
        layers: tuple[Layer, ...],
        flat: Array,
        buffers: dict[str, Array],
        frozen: set[str],
        key: int,
    ) -> Sequential:
        """Make a model of layers that are no part of one yet, and the arrays that it is to hold."""
        model = cls.__new__(cls)
        model._dtype = flat.dtype
        model._hold(layers, flat, buffers, frozen, key)
        model._bind()
        return model

    @classmethod
    def _of_arrays(
        cls,
        layers: tuple[Layer, ...],
        dtype: npt.DTypeLike,
        arrays: Mapping[str, Array],
        frozen: Collection[str] = (),
        key: int = 0,
    ) -> Sequential:
        """Make a model of layers with the arrays that a ``state_dict`` has, drawing none.

        Raises a ValueError that lists names and shapes, and a TypeError for a dtype, that are not
        those of the layers: before memory is asked for, since the layers may be of any size.
        """
        own = check_floating("dtype", dtype)
        _check_given(layers, own)
        parameters = {
            f"{i}.{name}": shape
            for i, layer in enumerate(layers)
            for name, shape in layer._parameter_shapes.items()
        }
        buffers = {
            f"{i}.{name}": shape
            for i, layer in enumerate(layers)
            for name, shape in layer._buffer_shapes.items()
        }
        _check_arrays("", arrays, parameters | buffers, True)
        unknown = [name for name in frozen if name not in arrays]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is frozen, but not in the model")
        initial = {
            f"{i}.{name}": value.dtype
            for i, layer in enumerate(layers)
            for name, value in layer._initial_buffers().items()
        }
        for name, value in arrays.items():
            wanted = initial[name] if initial.get(name, own).kind != "f" else own
            if value.dtype != wanted:
                raise TypeError(f"{name} is {value.dtype}, not {wanted}")
        flat = np.empty(sum(map(math.prod, parameters.values())), own)
        copied = {name: np.array(arrays[name]) for name in buffers}
        model = cls._of_flat(layers, flat, copied, set(frozen), key)
        for name, value in model.named_parameters().items():
            value[...] = arrays[name]
        return model

    def __call__(self, x: Any) -> Array:
        """Compute the outputs for x of shape (N, in_features) and the model's dtype.

        x may be sparse: a matrix of `scipy.sparse`, or one with the attributes of its CSR matrices.
        """
        inference = self._inference
        if inference is not None and self._use.thread is None:
            y = inference.try_call(x)
            if y is not None:
                return y
        read = as_compressed_rows if is_sparse(x) else as_matrix
        x = read(x, "x", self.dtype, self.in_features)
        self._use.check()
        if inference is None or inference.width != x.shape[1]:
            inference = self._inference = Inference(self.layers, self.dtype, x.shape[1])
        return inference(x)

    def snapshot(self) -> Snapshot:
        """Return a function of the model as it is now, for inference alone.

        ``model(x)`` reads the weights anew in each call, since anybody may have written to them. A
        snapshot has copies that nobody can write to, in the order in which the products read them:
        for a single row of a network such as 784-256-128-10 that is several times as fast, to the
        same bits. What is trained later needs another one.

        Returns
        -------
        Snapshot
            ``snapshot(x)`` gives what ``model(x)`` would have given then.
        """
        return Snapshot(self)

    def _try_finite(self, x: Any) -> Array | None:
        """Compute the outputs for an array as it should be, without NaN and infinities.

        None for any other, and before the model was called for the first time: a way without checks
        in Python, to be followed by one with them.
        """
        inference = self._inference
        return None if inference is None or self._use.thread else inference.try_call(x, True)

    def forward(self, x: Any) -> Array:
        """Compute the outputs as in training, and keep what the way back needs.

        As in PyTorch's mode of training, `Dropout` drops elements, drawn anew by the seed of the
        model in each call, and `BatchNorm1d` normalizes by the batch and moves its running
        statistics, unless they are frozen. ``model(x)`` infers.

        Parameters
        ----------
        x : ndarray of shape (N, in_features)
            Of the model's dtype. It is copied: it may change before `backward`.

        Returns
        -------
        ndarray of shape (N, out_features)
            A new array. Of an ensemble, (N * k, out_features), with the k members of a row one
            after the other: they have losses of their own.
        """
        passes = self._passes
        if passes is not None and passes.seen == changes.count and self._use.thread is None:
            y = passes.forward(x)
            if y is not None:
                return y
        x = as_matrix(x, "x", self.dtype, self.in_features)
        self._use.check()
        self._make_writeable()
        passes = self._passes
        if passes is not None and passes.is_of(self):
            y = passes.forward(x)
            if y is not None:
                return y
        if passes is not None:
            self._key = passes.key
        if self._gradient is None:
            self._gradient = np.zeros_like(self.flat)
        most = max(1, len(x))
        passes = self._passes = Passes(self, x.shape[1], most, self._gradient, self._key)
        y = passes.forward(x)
        if y is None:
            check_codes(self._layers, x)
        assert y is not None
        return y

    @overload
    def backward(self, dy: Any, /, *, add: bool = False) -> Array: ...
    @overload
    def backward(self, x: Any, dy: Any, /, *, add: bool = False) -> Array: ...
    def backward(self, *arrays: Any, add: bool = False) -> Array:
        """Compute the gradient of x, and those of the parameters, after the last `forward`.

        The parameters must be as they were then: an update comes after the way back. There may be
        several of them after one `forward`, such as one for each row of a Jacobian.
        ``model.backward(x, dy)`` is ``model.forward(x)`` and then ``model.backward(dy)``.

        Parameters
        ----------
        x : ndarray of shape (N, in_features), optional
            The rows to go forward with first.
        dy : ndarray of shape (N, out_features)
            The gradient of what is minimized with respect to the outputs of `forward`, of the
            model's dtype.
        add : bool
            Whether to add the gradients of the parameters to those that are in `grads`, and not to
            replace them.

        Returns
        -------
        ndarray of shape (N, in_features)
            The gradient with respect to x, a new array.

        Raises
        ------
        RuntimeError
            There was no `forward` before, or a parameter has been frozen or unfrozen since.
        """
        if len(arrays) not in (1, 2):
            raise TypeError(f"model.backward takes dy, or x and dy, got {len(arrays)} arrays")
        *x, dy = arrays
        add = check_flag("model.backward: add", add)
        if x:
            # Going forward moves running statistics: what is wrong with dy is said before.
            rows, width = as_matrix(x[0], "x", self.dtype, None).shape
            dy = self._as_output_gradient(dy, rows, width)
            self.forward(*x)
        passes = self._passes
        self._use.check()
        # First of all: while another thread is in a pass, there are no rows to go back with.
        dx = None if passes is None else passes.backward(dy, add)
        if dx is None:
            if passes is None or passes.rows < 0:
                raise RuntimeError(
                    "model.backward(dy) goes back after model.forward(x), which was not called"
                )
            dx = passes.backward(self._as_output_gradient(dy, passes.rows, passes.width), add)
            assert dx is not None
        return dx

    def _as_output_gradient(self, dy: Any, rows: int, width: int) -> Array:
        """Return dy for so many rows of x of this width as an array; an error says what is wrong."""
        array = as_matrix(dy, "dy", self.dtype, None)
        rows *= members_in_training(self._layers)
        if array.shape[0] != rows:
            raise ValueError(
                f"dy must have the {rows} rows that model.forward(x) had, not {array.shape[0]}"
            )
        width = self._widths[1] or width
        if array.shape[1] != width:
            raise ValueError(
                f"dy must have shape (N, {width}), like the outputs, not {array.shape}"
            )
        return array

    def grads(self, *names: str) -> list[Array | None]:
        """Return the gradients of the last `backward`, in the order of ``parameters(*names)``.

        They are views of memory that the next `backward` writes to. The gradient of a frozen
        parameter is None, which ``optimizer.step(model.grads())`` leaves as it is.

        Parameters
        ----------
        *names : str
            Layers or parameters, as `parameters` takes them; all if none is named.

        Raises
        ------
        RuntimeError
            There was no `forward` before, or a parameter has been frozen or unfrozen since.
        ValueError
            The model has no parameter of that name.
        """
        if self._passes is None:
            raise RuntimeError("model.grads() needs model.forward(x) and model.backward(dy) before")
        grads = self._passes.grads
        return [grads[name] for name in self._chosen(names)] if names else [*grads.values()]

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
        return self._widths[0]

    @property
    def out_features(self) -> int | None:
        """Features of the outputs; None if as many as those of x.

        Where members of an ensemble do not end in an `EnsembleMean`, the outputs of all of them.
        """
        width = self._widths[1]
        return width if width is None else width * members_after(self._layers)

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
        return [own[name] for name in self._chosen(names)] if names else list(own.values())

    def _chosen(self, names: tuple[str, ...]) -> list[str]:
        """Name the parameters that these layers or parameters are, in their order."""
        own = self.named_parameters()
        matches = {name: self._matching(name) & own.keys() for name in names}
        for name, found in matches.items():
            if not found:
                raise ValueError(f"the model has no parameter {name!r}, only {', '.join(own)}")
        wanted = set().union(*matches.values())
        return [name for name in own if name in wanted]

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
        layers = leaves_of(self.layers).items()
        weights = {name: layer.weight for name, layer in layers if isinstance(layer, Linear)}
        zeros = {name: weight.size - np.count_nonzero(weight) for name, weight in weights.items()}
        if check_flag("sparsity: by_layer", by_layer):
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
        strict = check_flag("load_state_dict: strict", strict)
        own = self._named_arrays()
        given = {n: as_numbers(value, f"load_state_dict: {n}") for n, value in state.items()}
        shared = [name for name in own if name in given]
        shapes = {name: value.shape for name, value in own.items()}
        _check_arrays("load_state_dict: ", given, shapes, strict)
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
        if self._owner is None:
            return frozenset(self._frozen)
        return frozenset(n for n in self._named_arrays() if self._name_in(n) in self._owner._frozen)

    def freeze(self, name: str) -> None:
        """Keep a parameter ("0.weight") or a layer ("0") from being trained.

        What is frozen does not change by a single bit, and layers below the first one that learns
        cost no way back. A frozen `BatchNorm1d` normalizes by its running statistics in training,
        too, and leaves them as they are.

        Raises ValueError for a name that the model does not have.
        """
        owner = self._owner or self
        owner._frozen |= {self._name_in(own) for own in self._matching(name)}
        owner._forget_passes()

    def unfreeze(self, name: str) -> None:
        """Train a frozen parameter ("0.weight") or layer ("0") again."""
        owner = self._owner or self
        owner._frozen -= {self._name_in(own) for own in self._matching(name)}
        owner._forget_passes()

    def _name_in(self, name: str) -> str:
        """Return what a parameter is called in the model that this one is a part of."""
        layer, _, own = name.partition(".")
        return f"{int(layer) + self._start}.{own}"

    def _matching(self, name: str) -> set[str]:
        names = self._named_arrays()
        found = {n for n in names if n == name or n.startswith(f"{name}.")}
        if not found:
            raise ValueError(f"the model has no parameter {name!r}, only {', '.join(names)}")
        return found

    def _in_training(self) -> _Use:
        """Keep others from training the model, and other threads from using it, meanwhile."""
        return self._use

    def _named_arrays(self) -> dict[str, Array]:
        """Return parameters and buffers, layer by layer."""
        parameters = self.named_parameters()
        return {
            f"{i}.{name}": parameters.get(f"{i}.{name}", self._buffers.get(f"{i}.{name}"))  # type: ignore[misc]
            for i, layer in enumerate(self.layers)
            for name in (*layer._parameter_shapes, *layer._buffer_shapes)
        }

    @property
    def _draws(self) -> int:
        """What draws what layers draw in the next `forward`."""
        return self._key if self._passes is None else self._passes.key

    def _set_draws(self, key: int) -> None:
        """Have the next `forward` draw by this."""
        self._passes, self._key = None, key

    def _make_writeable(self) -> None:
        """Copy what is to be trained where it cannot be written, such as a read-only map of a file.

        Until then all processes that load the file share its memory.
        """
        if self._owner is not None:
            self._owner._make_writeable()
            return
        arrays = [self._flat, *self._buffers.values()]
        if all(array.flags.writeable for array in arrays):
            return
        self._flat = as_writeable(self._flat)
        self._buffers = {name: as_writeable(value) for name, value in self._buffers.items()}
        self._bind()

    def _describe_anew(self) -> None:
        """Let go of what inference was described by, after an option of a layer was set."""
        self._inference = None
        for part in self._parts:
            part._inference = None

    def _forget_passes(self) -> None:
        """Let go of passes of a model whose parameters are trained or not as they were before."""
        changes.add()
        for model in (self, *self._parts):
            if model._passes is not None:
                model._key, model._passes = model._passes.key, None

    def _bind(self) -> None:
        own = weakref.ref(self)
        self._tie.cover(self._flat)
        views = self._split(self.flat)
        for i, layer in enumerate(self.layers):
            arrays = {name: views[f"{i}.{name}"] for name in layer._parameter_shapes}
            arrays |= {name: self._buffers[f"{i}.{name}"] for name in layer._buffer_shapes}
            layer._bind(arrays, own)
        # Made for the features of the first x; it reads the arrays that the layers hold now.
        self._inference = None
        self._forget_passes()
        for part in self._parts:
            part._share()

    def _part(self, start: int, stop: int) -> Sequential:
        """Return a model of some of the layers, which are shared."""
        part = Sequential.__new__(Sequential)
        part._owner, part._start = self._owner or self, self._start + start
        part._dtype, part._layers = self._dtype, self._layers[start:stop]
        part._widths = widths_of(part._layers)
        part._frozen, part._parts = set(), weakref.WeakSet()
        part._passes = part._gradient = None
        part._key = self._key ^ (start + 1)
        part._share()
        part._owner._parts.add(part)
        return part

    def _share(self) -> None:
        """Take the arrays of the model that this one is a part of."""
        owner = self._owner
        assert owner is not None
        sizes = [
            sum(map(math.prod, layer._parameter_shapes.values()))
            for layer in owner.layers[: self._start + len(self)]
        ]
        self._use = owner._use
        self._flat = owner._flat[sum(sizes[: self._start]) : sum(sizes)]
        self._buffers = {
            f"{i}.{name}": owner._buffers[f"{i + self._start}.{name}"]
            for i, layer in enumerate(self.layers)
            for name in layer._buffer_shapes
        }
        self._inference = None

    def _take_in(self, model: Sequential, start: int) -> None:
        """Take over the arrays of a model whose layers are this one's from that one on."""
        before = sum(
            math.prod(shape) for n in self.layers[:start] for shape in n._parameter_shapes.values()
        )
        self._flat = np.concatenate([self._flat[:before], model._flat, self._flat[before:]])
        for name, value in model._buffers.items():
            self._buffers[f"{int(name.partition('.')[0]) + start}.{name.partition('.')[2]}"] = value
        model._tie = Tie()  # an optimizer of the arrays that it had updates nothing of it any more
        for part in (model, *model._parts):
            part._owner, part._start = self, part._start + start
            self._parts.add(part)
        self._frozen |= {model._name_in(name) for name in model._frozen}

    def __len__(self) -> int:
        return len(self.layers)

    @overload
    def __getitem__(self, index: int) -> Layer: ...
    @overload
    def __getitem__(self, index: slice) -> Sequential: ...
    def __getitem__(self, index: int | slice) -> Layer | Sequential:
        if not isinstance(index, slice):
            return self.layers[index]
        start, stop, step = index.indices(len(self))
        if step != 1 or start >= stop:
            raise ValueError(
                f"a part of a model is one or more of its {len(self)} layers in a row, "
                f"not model[{index.start}:{index.stop}:{index.step}]"
            )
        return self._part(start, stop)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    def __copy__(self) -> Sequential:
        return self._part(0, len(self))

    def __getstate__(self) -> dict[str, Any]:
        own = {"_frozen": set(self.frozen), "_key": self._draws, "_owner": None, "_start": 0}
        made_anew = dict.fromkeys(("_inference", "_passes", "_gradient", "_use", "_parts"))
        owner = self._owner or self
        place = address(self._flat) - address(owner._flat)
        return self.__dict__ | own | made_anew | {"_tie": (owner._tie, place)}

    # A copy's layers must be views on the copy's array.
    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._use, self._tie, self._parts = _Use(), Tie(), weakref.WeakSet()
        self._widths = widths_of(self._layers)
        self._bind()
        if "_tie" in state:
            tie, place = state["_tie"]
            tie.bring_model(self, place)

    def __repr__(self) -> str:
        lines = [f"  ({i}): {layer!r}" for i, layer in enumerate(self.layers)]
        header = f"Sequential(  # {self.flat.size:,} parameters, {self.dtype}"
        return "\n".join([header, *lines, ")"])


def _taken_apart(
    given: tuple[Layer | Sequential, ...], dtype: np.dtype[Any]
) -> tuple[tuple[Layer, ...], list[tuple[int, Sequential]]]:
    """Return all layers in a row, and each model that gives some, with the place of its first one."""
    layers: list[Layer] = []
    nested: list[tuple[int, Sequential]] = []
    for item in given:
        if not isinstance(item, Sequential):
            layers.append(item)
            continue
        if item._owner is not None or any(item is model for _, model in nested):
            raise ValueError("a Sequential among the layers is already part of a model")
        if item.dtype != dtype:
            raise TypeError(f"a Sequential among the layers is {item.dtype}, the model {dtype}")
        item._use.check()
        nested.append((len(layers), item))
        layers += item.layers
    return tuple(layers), nested


def _check_arrays(
    where: str, given: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]], strict: bool
) -> None:
    """Raise a ValueError that lists all names and shapes of arrays that are not the model's."""
    wrong = [
        f"{name} has shape {given[name].shape}, the model's {shape}"
        for name, shape in shapes.items()
        if name in given and given[name].shape != shape
    ]
    if strict:
        wrong += [f"{name} is missing" for name in shapes if name not in given]
        wrong += [f"{name} is not in the model" for name in given if name not in shapes]
    if wrong:
        raise ValueError(where + "; ".join(wrong))


def _check_given(
    layers: tuple[Layer, ...], dtype: np.dtype[Any], shared: Collection[int] = ()
) -> None:
    if not layers:
        raise ValueError("Sequential needs at least one layer")
    check_layers("Sequential", layers, shared)
    members_after(layers)
    check_sizes(layers, dtype)
