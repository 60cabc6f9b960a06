"""State dicts of optimizers, read and checked before anything is changed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dlcore._common.arrays import as_array
from dlcore._common.checks import check_real
from dlcore.optim._groups import NOTES, ParamGroup

if TYPE_CHECKING:
    from dlcore._common.typing import Array

# How PyTorch computes, not what.
_SWITCHES = ("foreach", "fused", "capturable", "differentiable", "param_names")


class StateNames(NamedTuple):
    """What the state of a parameter is made of."""

    step: bool  # whether its steps are counted
    arrays: tuple[str, ...]
    optional: frozenset[str]  # arrays that may be missing
    squares: frozenset[str]  # arrays that are not negative


class Saved(NamedTuple):
    """The state of a parameter."""

    steps: int
    arrays: dict[str, Array]


class StateDictReader:
    """Reads a state dict in PyTorch's layout for some groups.

    Parameters
    ----------
    owner : str
        The class of the optimizer, for messages.
    groups : sequence of ParamGroup
        The groups that it must fit.
    defaults : dict
        The options of groups that lack them: those that came later than the checkpoint.
    names : StateNames
        What the state of a parameter is made of.
    """

    def __init__(
        self,
        owner: str,
        groups: Sequence[ParamGroup],
        defaults: Mapping[str, Any],
        names: StateNames,
    ) -> None:
        self._where = f"{owner}.load_state_dict"
        self._groups, self._defaults, self._names = groups, defaults, names

    def read(self, given: Any) -> tuple[list[dict[str, Any]], list[Saved]]:
        """Return the options of each group, and the state of each parameter in their order."""
        if not isinstance(given, Mapping) or not {"state", "param_groups"} <= given.keys():
            got = _shown(given)
            raise ValueError(
                f"{self._where}: state_dict must hold 'state' and 'param_groups', got {got}"
            )
        groups, state = given["param_groups"], given["state"]
        if not isinstance(groups, Sequence) or not all(
            isinstance(group, Mapping) and "params" in group for group in groups
        ):
            raise ValueError(f"{self._where}: param_groups must be dicts with 'params'")
        sizes = [len(group["params"]) for group in groups]
        own = [len(group["params"]) for group in self._groups]
        if sizes != own:
            raise ValueError(
                f"{self._where}: state_dict must be of groups of {own} parameters, got {sizes}"
            )
        options = [
            self._options(i, own_group, group)
            for i, (own_group, group) in enumerate(zip(self._groups, groups, strict=True))
        ]
        keys = [key for group in groups for key in group["params"]]
        if (
            not isinstance(state, Mapping)
            or not set(state) <= set(keys)
            or len(set(keys)) < len(keys)
        ):
            raise ValueError(
                f"{self._where}: state must be of the parameters of param_groups, {keys}, "
                f"got {_shown(state)}"
            )
        params = [p for group in self._groups for p in group["params"]]
        pairs = zip(keys, params, strict=True)
        return options, [self._saved(key, p, state.get(key)) for key, p in pairs]

    def _options(self, i: int, own: ParamGroup, given: Mapping[str, Any]) -> dict[str, Any]:
        known = self._defaults.keys() | {"params", *NOTES, *_SWITCHES}
        # An option of a later version that is off asks for nothing.
        unknown = [
            name
            for name, value in given.items()
            if name not in known and value is not None and value is not False
        ]
        if unknown:
            raise ValueError(
                f"{self._where}: param_groups[{i}] has options that there are none of, "
                f"{', '.join(map(repr, unknown))}; there are {', '.join(self._defaults)}"
            )
        of_group = {name: given.get(name, value) for name, value in self._defaults.items()}
        notes = {name: given[name] for name in NOTES if name in given}
        return own.checked({**of_group, **notes})

    def _saved(self, key: Any, p: Array, given: Any) -> Saved:
        if not given and (given is None or isinstance(given, Mapping)):
            return Saved(0, {})
        name = f"{self._where}: state[{key!r}]"
        if not isinstance(given, Mapping):
            raise TypeError(f"{name} must be a dict, got {type(given).__name__}")
        there = {own for own, value in given.items() if own == "step" or value is not None}
        names = {*self._names.arrays, "step"} if self._names.step else set(self._names.arrays)
        if not names - self._names.optional <= there <= names:
            raise ValueError(f"{name} must hold {sorted(names)}, got {sorted(there, key=repr)}")
        steps = _as_steps(f"{name}['step']", given["step"]) if self._names.step else 0
        arrays = {
            own: self._array(f"{name}[{own!r}]", p, given[own], own in self._names.squares)
            for own in self._names.arrays
            if own in there
        }
        return Saved(steps, arrays)

    @staticmethod
    def _array(name: str, p: Array, given: Any, squares: bool) -> Array:
        if isinstance(given, Sequence) or np.isscalar(given):
            raise TypeError(f"{name} must be an array of {p.dtype}, got {type(given).__name__}")
        array = as_array(given, name)
        if array.dtype != p.dtype:
            raise TypeError(f"{name} must be an array of {p.dtype}, got {array.dtype}")
        if array.shape != p.shape:
            raise ValueError(f"{name} must have the shape {p.shape}, got {array.shape}")
        if np.isnan(array).any():
            raise ValueError(f"{name} must not hold NaN")
        if squares and (array < 0).any():
            raise ValueError(f"{name} is of squares, which are not negative, got {array.min()}")
        return np.array(array, order="C")


def _as_steps(name: str, given: Any) -> int:
    steps = check_real(name, given)
    if not (math.isfinite(steps) and steps >= 0 and steps == int(steps)):
        raise ValueError(f"{name} must be a whole number and at least 0, got {given}")
    return int(steps)


def _shown(given: Any) -> str:
    """Show the keys of a dict, and the type of what is none."""
    return str(list(given)) if isinstance(given, Mapping) else type(given).__name__
