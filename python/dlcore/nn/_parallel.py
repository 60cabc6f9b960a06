"""Branches over one input: residual connections, several inputs, wide and deep networks."""

from __future__ import annotations

import copy
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from dlcore._common.checks import check_choice, check_positive_int
from dlcore.nn._chains import check_layers, members_after, widths_of
from dlcore.nn._layers import LAYERS, Layer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import TypeAlias

    import numpy as np

    from dlcore._common.protocols import Model, OwnerOfLayers
    from dlcore._common.typing import Array

    # A branch: a layer, several in a row, or a network.
    Branch: TypeAlias = Layer | Sequence[Layer] | Model

__all__ = ["Parallel", "Residual"]


class Branches(Layer):
    """Base class of the layers that are made of others, in branches over the same input.

    What is asked of a layer is asked of all of them; their parameters have dotted names.
    """

    # Whether outputs are added, and do not lie side by side.
    _is_sum: bool = True
    # The layers by the beginning of the names of their parameters.
    _children: dict[str, Layer]
    # The values that parameters and buffers of networks in it have, until it is part of a model.
    _values: dict[str, Array]

    def _branches(self, width: int) -> list[tuple[int, int, dict[str, Layer]]]:
        """Return the columns that each branch takes of so many, and its layers by their names."""
        raise NotImplementedError

    @property
    def _given_branches(self) -> list[Layer | list[Layer]]:
        """The layers that make such a one, before the options."""
        raise NotImplementedError

    @property
    def _leaves(self) -> dict[str, Layer]:
        return {
            f"{name}.{own}" if own else name: leaf
            for name, child in self._children.items()
            for own, leaf in child._leaves.items()
        }

    def _members_after(self, before: int) -> int:
        rows = [own.values() for _, _, own in self._branches(self.in_features or 0)]
        after = [members_after(layers, before) for layers in rows]
        if len(set(after)) > 1:
            raise ValueError(f"{self!r}: its branches are of {after} members")
        return after[0]

    @property
    def _is_bound(self) -> bool:  # type: ignore[override]
        return any(child._is_bound for child in self._children.values())

    @property
    def _parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        return dict(self._each(lambda child: child._parameter_shapes))

    @property
    def _buffer_shapes(self) -> dict[str, tuple[int, ...]]:
        return dict(self._each(lambda child: child._buffer_shapes))

    def _parameter_of(self, name: str, flat: Array) -> Array:
        start, child = self._owner_of(name)
        return child._parameter_of(name[len(start) :], flat)

    def _initial_parameters(self, rng: np.random.Generator) -> dict[str, Array]:
        drawn = dict(self._each(lambda child: child._initial_parameters(rng)))
        return {name: self._values.get(name, value) for name, value in drawn.items()}

    def _initial_buffers(self) -> dict[str, Array]:
        initial = dict(self._each(lambda child: child._initial_buffers()))
        return {name: self._values.get(name, value) for name, value in initial.items()}

    def _bind(self, arrays: dict[str, Array], model: Callable[[], OwnerOfLayers | None]) -> None:
        for start, child in self._children.items():
            own = {
                name[len(start) + 1 :]: array
                for name, array in arrays.items()
                if name.startswith(f"{start}.")
            }
            child._bind(own, model)
        self._values = {}

    @property
    def _settings(self) -> object:
        return [child._settings for child in self._children.values()]

    def _each(self, of: Callable[[Layer], dict[str, Any]]) -> Iterator[tuple[str, Any]]:
        for start, child in self._children.items():
            for name, value in of(child).items():
                yield f"{start}.{name}", value

    def _owner_of(self, name: str) -> tuple[str, Layer]:
        """Return the beginning of the name of a parameter, and the layer that has it."""
        return next(
            (f"{start}.", child)
            for start, child in self._children.items()
            if name.startswith(f"{start}.")
        )


class Residual(Branches):
    """``y = x + f(x)`` for layers f: a residual (skip) connection.

    Parameters
    ----------
    *layers : Layer or Sequential
        f, in order; it must give as many features as it takes. A `Sequential` gives copies of its
        layers, with its weights.

    Notes
    -----
    The names of the parameters are those of the layers in f: ``model.state_dict()`` has
    "1.0.weight" for the weights of the first layer in the residual block that is layer 1, as
    PyTorch names a module that is a list.

    References
    ----------
    He, Zhang, Ren, Sun: Deep residual learning for image recognition, CVPR 2016.
    Gorishniy et al.: Revisiting deep learning models for tabular data, NeurIPS 2021 (on tables).

    Examples
    --------
    >>> import dlcore as dl
    >>> block = dl.Residual(dl.LayerNorm(64), dl.Linear(64, 128), dl.ReLU(), dl.Linear(128, 64))
    >>> dl.Sequential(dl.Linear(20, 64), block, dl.ReLU(), dl.Linear(64, 3), seed=0).out_features
    3
    """

    def __init__(self, *layers: Layer | Model) -> None:
        self._children, self._values = _in_a_row("Residual", layers)
        taken, given = widths_of([*self._children.values()])
        if not layers:
            raise ValueError("Residual needs at least one layer")
        if taken != given:
            raise ValueError(
                f"Residual: its layers must give as many features as they take, but take {taken} and "
                f"give {given}"
            )
        self.in_features = self.out_features = taken

    def _branches(self, width: int) -> list[tuple[int, int, dict[str, Layer]]]:
        return [(0, width, self._children), (0, width, {})]

    @property
    def _given_branches(self) -> list[Layer | list[Layer]]:
        """The layers that make such a one, before the options."""
        return [*self._children.values()]

    def __repr__(self) -> str:
        return f"Residual({', '.join(map(repr, self._children.values()))})"


class Parallel(Branches):
    """Branches over one input, whose outputs lie side by side or are added.

    Parameters
    ----------
    *branches : Layer, sequence of Layer, or Sequential
        Each a layer, or several in a row; ``()`` passes its columns on as they are. A `Sequential`
        gives copies of its layers, with its weights.
    columns : sequence of slice or (int, int), optional
        The columns of x that each branch takes, from a start to a stop; all of them by default.
        They may overlap.
    join : {"concat", "sum"}
        Whether the outputs lie side by side, in the order of the branches, or are added.
    in_features : int, optional
        Columns of x; by default what the branches take, or the end of the last of ``columns``.

    Raises
    ------
    ValueError
        Branches do not fit their columns or each other.

    Notes
    -----
    The names of the parameters begin with the number of the branch: "0.1.weight" is branch 1 of
    layer 0, if that is a single layer, and "0.1.2.weight" its third one, if they are several.

    Examples
    --------
    A wide and deep network, of which the deep part sees the last 12 of 20 columns alone:

    >>> import dlcore as dl
    >>> deep = [dl.Linear(12, 64), dl.ReLU(), dl.Linear(64, 32), dl.ReLU()]
    >>> columns = [slice(0, 20), slice(8, 20)]
    >>> model = dl.Sequential(
    ...     dl.Parallel((), deep, columns=columns), dl.Linear(20 + 32, 3), seed=0
    ... )
    >>> model.in_features
    20
    >>> [*model.named_parameters()]
    ['0.1.0.weight', '0.1.0.bias', '0.1.2.weight', '0.1.2.bias', '1.weight', '1.bias']
    """

    def __init__(
        self,
        *branches: Branch,
        columns: Sequence[slice | Sequence[int]] | None = None,
        join: Literal["concat", "sum"] = "concat",
        in_features: int | None = None,
    ) -> None:
        if not branches:
            raise ValueError("Parallel needs at least one branch")
        self.join = check_choice("Parallel: join", join, ("concat", "sum"))
        self._is_sum = join == "sum"
        rows = [_in_a_row(f"Parallel: branch {i}", _as_row(b)) for i, b in enumerate(branches)]
        self._rows = [layers for layers, _ in rows]
        # A branch that is one layer has no number for it.
        self._is_row = [not isinstance(branch, Layer) for branch in branches]
        self._children, self._values = {}, {}
        for i, (layers, values) in enumerate(rows):
            self._children |= {self._name(i, name): layer for name, layer in layers.items()}
            self._values |= {self._name(i, name): value for name, value in values.items()}
        slices = None if columns is None else [*map(_as_slice, columns)]
        self.in_features = self._checked_width(slices, in_features)
        self._columns = None if slices is None else self._checked_columns(slices)
        self.out_features = self._joined_width()

    def _name(self, branch: int, name: str) -> str:
        """Return the name in this layer of what has another one in its branch."""
        if self._is_row[branch]:
            return f"{branch}.{name}"
        _, _, own = name.partition(".")
        return f"{branch}.{own}" if own else str(branch)

    @property
    def columns(self) -> list[slice] | None:
        """The columns of x that each branch takes; None for all of them."""
        return None if self._columns is None else [slice(*pair) for pair in self._columns]

    def _checked_width(self, columns: Sequence[slice] | None, given: int | None) -> int | None:
        if given is not None:
            return check_positive_int("Parallel: in_features", given)
        if columns is not None:
            stops = [taken.stop for taken in columns]
            if any(stop is None or stop < 0 for stop in stops):
                raise ValueError(
                    "Parallel: needs in_features where a slice of columns has no end of its own"
                )
            return int(max(stops))
        taken = (widths_of([*layers.values()])[0] for layers in self._rows)
        return next((width for width in taken if width is not None), None)

    def _checked_columns(self, columns: Sequence[slice]) -> list[tuple[int, int]]:
        assert self.in_features is not None
        if len(columns) != len(self._rows):
            raise ValueError(
                f"Parallel: columns must have a slice for each of the {len(self._rows)} branches, "
                f"got {len(columns)}"
            )
        pairs = []
        for taken in columns:
            start, stop, step = taken.indices(self.in_features)
            if step != 1 or start >= stop or (taken.stop or 0) > self.in_features:
                raise ValueError(
                    f"Parallel: columns must be one or more of {self.in_features} in a row, "
                    f"not {taken!r}"
                )
            pairs.append((start, stop))
        return pairs

    def _joined_width(self) -> int | None:
        given = []
        for i, layers in enumerate(self._rows):
            own = (
                self.in_features
                if self._columns is None
                else self._columns[i][1] - self._columns[i][0]
            )
            taken, gives = widths_of([*layers.values()])
            if taken is not None and own != taken:
                raise ValueError(f"Parallel: branch {i} takes {taken} features, but gets {own}")
            given.append(own if gives is None else gives)
        if self._is_sum:
            if len(set(given)) > 1:
                raise ValueError(f"Parallel: branches give {given} features, which cannot be added")
            return given[0]
        known = [width for width in given if width is not None]
        if len(known) < len(given):
            raise ValueError("Parallel: needs in_features, since no branch says what it takes")
        return sum(known)

    def _branches(self, width: int) -> list[tuple[int, int, dict[str, Layer]]]:
        columns = self._columns or [(0, width)] * len(self._rows)
        return [
            (*columns[i], {self._name(i, name): layer for name, layer in layers.items()})
            for i, layers in enumerate(self._rows)
        ]

    @property
    def _given_branches(self) -> list[Layer | list[Layer]]:
        """The layers that make such a one, before the options."""
        rows = [[*layers.values()] for layers in self._rows]
        return [row if is_row else row[0] for row, is_row in zip(rows, self._is_row, strict=True)]

    @property
    def _options(self) -> dict[str, Any]:
        columns = None if self._columns is None else [list(pair) for pair in self._columns]
        return {"columns": columns, "join": self.join, "in_features": self.in_features}

    def __repr__(self) -> str:
        options: dict[str, Any] = {} if self.join == "concat" else {"join": self.join}
        if self._columns is not None:
            options["columns"] = self.columns
        shown = [*map(repr, self._given_branches), *(f"{n}={v!r}" for n, v in options.items())]
        return f"Parallel({', '.join(shown)})"


def _as_slice(taken: Any) -> slice:
    if isinstance(taken, slice):
        return taken
    try:
        start, stop = taken
        return slice(operator.index(start), operator.index(stop))
    except (TypeError, ValueError):
        raise TypeError(
            f"Parallel: columns must be slices or pairs, such as slice(0, 5), not {taken!r}"
        ) from None


def _as_row(branch: Any) -> Iterable[Any]:
    if isinstance(branch, Layer) or hasattr(branch, "state_dict"):
        return (branch,)
    if not isinstance(branch, Sequence) or isinstance(branch, str):
        raise TypeError(
            f"Parallel: a branch is a layer, several in a list, or a Sequential, not {branch!r}"
        )
    return branch


def _in_a_row(owner: str, given: Iterable[Any]) -> tuple[dict[str, Layer], dict[str, Array]]:
    """Return layers by their numbers, and the values that parameters of networks among them have."""
    layers: list[Layer] = []
    values: dict[str, Array] = {}
    for item in given:
        if isinstance(item, Layer) or not hasattr(item, "state_dict"):
            layers.append(item)
            continue
        for name, value in item.state_dict().items():
            number, _, own = name.partition(".")
            values[f"{len(layers) + int(number)}.{own}"] = value
        layers += map(copy.deepcopy, item.layers)  # copies are part of no model
    check_layers(owner, layers)
    return {str(i): layer for i, layer in enumerate(layers)}, values


for _kind in (Residual, Parallel):
    LAYERS[_kind.__name__] = _kind
