"""What optimizers share: groups of parameters with options of their own, and their state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from dlcore._common.checks import check_real

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dlcore._common.typing import Array
    from dlcore._native.specs import AdamState, OptimizerSpec, SGDState

__all__ = ["Optimizer"]


# Arrays, or groups of them: {"params": arrays, option: value, ...}.
Params = Iterable[Any]


class Optimizer:
    """Base class of the optimizers: groups of parameters with options of their own, and the state.

    One of your own defines `update` and, if it keeps arrays for each parameter from step to step,
    names them in `state_names`. Groups, learning rates, schedules and state dicts then work as for
    `Adam`. Training calls its `step` in Python, after each native pass backward. (A `Trainer` takes
    any object with ``step(grads)`` and ``lr``, too.)

    Parameters
    ----------
    params : iterable of ndarray, or of dict
        The arrays to update, float32 or float64, of any layout; or groups of them, each with
        options of its own, such as ``[{"params": model.parameters("0"), "lr": 1e-4}, ...]``.
    options : dict
        The options by name, "lr" among them: what groups have that bring none of their own.

    Attributes
    ----------
    params : list of ndarray
        All parameters, in the order in which `step` takes their gradients.
    steps : int
        Steps that were made.

    Raises
    ------
    ValueError
        If an option is out of range, parameters share memory, or one is read-only.
    TypeError
        If a parameter is no array of float32 or float64.

    Examples
    --------
    >>> import numpy as np, dlcore as dl
    >>> class SignMomentum(dl.Optimizer):
    ...     state_names = ("average",)
    ...     def __init__(self, params, lr=1e-3, *, beta=0.9):
    ...         super().__init__(params, {"lr": lr, "beta": beta})
    ...     def update(self, params, grads, state, options):
    ...         for p, g, average in zip(params, grads, state["average"], strict=True):
    ...             average += (1 - options["beta"]) * (g - average)
    ...             p -= options["lr"] * np.sign(average)
    >>> model = dl.Sequential(dl.Linear(3, 1), seed=0)
    >>> trainer = dl.Trainer(model, loss="mse", optimizer=SignMomentum(model.parameters()))
    """

    # The arrays that are kept for each parameter, of its shape and dtype and 0 before the first step.
    state_names: ClassVar[tuple[str, ...]] = ()

    # Options that are numbers, with the range that they must be in.
    _ranges: Mapping[str, tuple[float, float]] = {"lr": (0, np.inf)}

    def __init__(self, params: Params, options: dict[str, Any]) -> None:
        if "lr" not in options:
            raise ValueError(f"{self._name}: options must have 'lr', got {', '.join(options)}")
        self.params: list[Array] = []
        self._groups: list[dict[str, Any]] = []  # the options of each group
        self._group_of: list[int] = []  # the group of each parameter
        # The state by name, an array for each parameter; empty before the first step.
        self._state: dict[str, list[Array]] = {}
        self._steps = 0
        groups = self._take_params(params, options)
        self._check_params()
        self._set_groups(groups)

    def _take_params(self, params: Any, options: dict[str, Any]) -> list[dict[str, Any]]:
        """Take the parameters, and return the options of each group."""
        if not isinstance(params, Iterable):
            called = " write model.parameters()" if callable(params) else ""
            raise TypeError(
                f"{self._name}: params must be arrays or groups of them, "
                f"got {type(params).__name__};{called}".rstrip(";")
            )
        given: list[Any] = [params] if isinstance(params, Mapping) else list(params)
        are_groups = [isinstance(group, Mapping) for group in given]
        if any(are_groups) and not all(are_groups):
            raise TypeError(f"{self._name}: params must be arrays or groups (dicts), not both")
        groups = []
        for i, group in enumerate(given if any(are_groups) else [{"params": given}]):
            unknown = sorted(group.keys() - {"params", *options})
            if unknown or "params" not in group:
                raise ValueError(
                    f"{self._name}: params[{i}] must hold 'params' and options of "
                    f"{', '.join(options)}, got {', '.join(map(repr, group))}"
                )
            own = group["params"]
            own = [own] if isinstance(own, np.ndarray) and any(are_groups) else list(own)
            self.params += own
            self._group_of += [i] * len(own)
            groups.append(options | {name: group[name] for name in group if name != "params"})
        return groups

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _check_params(self) -> None:
        if not self.params:
            raise ValueError(f"{self._name}: params is empty")
        for i, p in enumerate(self.params):
            name = f"{self._name}: params[{i}]"
            if not isinstance(p, np.ndarray):
                raise TypeError(f"{name} must be an array, got {type(p).__name__}")
            if p.dtype not in (np.float32, np.float64) or not p.dtype.isnative:
                raise TypeError(f"{name} must be a float32 or float64 array, got {p.dtype}")
            if not p.flags.writeable:
                raise ValueError(f"{name} is read-only")
        spans = sorted((*np.lib.array_utils.byte_bounds(p), i) for i, p in enumerate(self.params))
        open_spans: list[tuple[int, int]] = []  # those that reach beyond the start of the next one
        for low, high, i in spans:
            open_spans = [(end, j) for end, j in open_spans if low < end]
            for _, j in open_spans:
                if np.shares_memory(self.params[i], self.params[j]):
                    raise ValueError(f"{self._name}: params[{j}] and params[{i}] share memory")
            open_spans.append((high, i))

    def _check_options(self, options: Mapping[str, Any]) -> None:
        for name, (low, high) in self._ranges.items():
            values = options[name] if isinstance(options[name], tuple) else (options[name],)
            for value in values:
                if not low <= check_real(f"{self._name}: {name}", value) < high:
                    below = "" if high == np.inf else f" and less than {high:g}"
                    raise ValueError(
                        f"{self._name}: {name} must be at least {low:g}{below}, got {options[name]}"
                    )

    def _set_groups(self, groups: list[dict[str, Any]]) -> None:
        for options in groups:
            self._check_options(options)
            if self._state_names(options) != self._state_names(groups[0]):
                raise ValueError(
                    f"{self._name}: all groups must keep the same state: momentum or amsgrad for "
                    f"all of them, or for none"
                )
        self._groups = groups

    @property
    def steps(self) -> int:
        """Steps that were made."""
        return self._steps

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The options of each group with its parameters: new dicts, the arrays themselves."""
        return [
            {**options, "params": [self.params[i] for i in self._members(group)]}
            for group, options in enumerate(self._groups)
        ]

    def _members(self, group: int) -> list[int]:
        return [i for i, own in enumerate(self._group_of) if own == group]

    @property
    def lrs(self) -> list[float]:
        """The learning rate of each group."""
        return [float(options["lr"]) for options in self._groups]

    def set_lrs(self, lrs: Sequence[float]) -> None:
        """Set the learning rate of each group."""
        if len(lrs) != len(self._groups):
            raise ValueError(
                f"{self._name}: lrs must hold {len(self._groups)} numbers, got {len(lrs)}"
            )
        pairs = zip(self._groups, lrs, strict=True)
        self._set_groups([{**options, "lr": lr} for options, lr in pairs])

    @property
    def lr(self) -> float:
        """The learning rate of the next step, of the first group if there are several.

        Setting it needs groups that have one rate in common; `set_lrs` sets those of each.
        """
        return self.lrs[0]

    @lr.setter
    def lr(self, value: float) -> None:
        if len(set(self.lrs)) > 1:
            raise ValueError(
                f"{self._name}: the groups have learning rates of their own, {self.lrs}; "
                f"set_lrs(...) sets them"
            )
        self.set_lrs([value] * len(self._groups))

    def __repr__(self) -> str:
        groups = [
            ", ".join(
                [f"{len(self._members(i))} arrays", *(f"{k}={v}" for k, v in options.items())]
            )
            for i, options in enumerate(self._groups)
        ]
        return f"{self._name}({'; '.join(groups)})"

    def _zeros(self) -> list[Array]:
        """Return an array of zeros for each parameter, in one block of memory for each dtype."""
        zeros: list[Array] = [np.empty(0)] * len(self.params)
        for dtype in {p.dtype for p in self.params}:
            mine = [i for i, p in enumerate(self.params) if p.dtype == dtype]
            block = np.zeros(sum(self.params[i].size for i in mine), dtype)
            at = 0
            for i in mine:
                p = self.params[i]
                zeros[i] = block[at : at + p.size].reshape(p.shape)
                at += p.size
        return zeros

    def state_dict(self) -> dict[str, Any]:
        """Return options and state in PyTorch's layout; the arrays are copies.

        Returns
        -------
        dict
            ``{"state": {i: {name: array or number}}, "param_groups": [{option: value, "params": [...]}]}``.
        """
        state = {}
        if self._state or (self._steps and "step" in self._state_names(self._groups[0])):
            step = {"step": self._steps} if "step" in self._state_names(self._groups[0]) else {}
            for i in range(len(self.params)):
                state[i] = {**step, **{name: a[i].copy() for name, a in self._state.items()}}
        groups = [{**options, "params": self._members(i)} for i, options in enumerate(self._groups)]
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over the options and state of `state_dict`; the arrays are copied.

        Raises
        ------
        ValueError
            If it does not fit: another number of parameters, other names, other shapes. Nothing is
            changed then.
        TypeError
            If an array has another dtype than its parameter.
        """
        groups = state_dict["param_groups"]
        own = [len(self._members(i)) for i in range(len(self._groups))]
        given = [len(group["params"]) for group in groups]
        if given != own:
            raise ValueError(
                f"{self._name}.load_state_dict: state_dict must be of groups of {own} parameters, "
                f"got {given}"
            )
        taken = [self._options_of(group) for group in groups]
        state = state_dict["state"]
        if state and set(state) != set(range(len(self.params))):
            raise ValueError(
                f"{self._name}.load_state_dict: state must be of all parameters or of none, "
                f"got {sorted(state)}"
            )
        names = self._state_names(taken[0])
        for i, p in enumerate(self.params if state else []):
            self._check_state(i, p, state[i], names)
        self._set_groups(taken)
        self._steps = int(state[0].get("step", 0)) if state else 0
        self._state = {
            name: [state[i][name].copy() for i in range(len(self.params))]
            for name in sorted(names - {"step"} if state else ())
        }

    def _options_of(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options of a group of a `state_dict`."""
        missing = self._groups[0].keys() - group.keys()
        if missing:
            raise ValueError(f"{self._name}.load_state_dict: no option {sorted(missing)}")
        options = {name: group[name] for name in self._groups[0]}
        return {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}

    def _state_names(self, options: Mapping[str, Any]) -> set[str]:  # noqa: ARG002
        """Name the state of a parameter in a state dict: "step" is the number of steps."""
        return {"step", *self.state_names}

    def _check_state(self, i: int, p: Array, given: Mapping[str, Any], names: set[str]) -> None:
        if given.keys() != names:
            raise ValueError(
                f"{self._name}.load_state_dict: state[{i}] must hold {sorted(names)}, "
                f"got {sorted(given)}"
            )
        for name in names - {"step"}:
            value = given[name]
            where = f"{self._name}.load_state_dict: state[{i}][{name!r}]"
            if not isinstance(value, np.ndarray) or value.dtype != p.dtype:
                got = getattr(value, "dtype", type(value).__name__)
                raise TypeError(f"{where} must be an array of {p.dtype}, got {got}")
            if value.shape != p.shape:
                raise ValueError(f"{where} must have the shape {p.shape}, got {value.shape}")

    def state_arrays(self) -> dict[str, list[Array]]:
        """Return the state by name; zeros before the first step."""
        if self._state:
            return self._state
        names = sorted(self._state_names(self._groups[0]) - {"step"})
        return {name: self._zeros() for name in names}

    def _advance(self, steps: int, state: dict[str, list[Array]]) -> None:
        """Take over what steps have done to ``state_arrays()``."""
        if steps:
            self._state = state
            self._steps += steps

    def step(self, grads: Sequence[Array]) -> None:
        """Update the parameters in place.

        Parameters
        ----------
        grads : sequence of ndarray
            One for each parameter, of its shape and dtype. They are not changed.

        Raises
        ------
        TypeError
            If a gradient has another dtype than its parameter.
        ValueError
            If the number of gradients or a shape differs, or a gradient shares memory with its
            parameter. Nothing is changed then.
        """
        given: list[Any] = list(grads)
        self._check_grads(given)
        state = self.state_arrays()
        for group, options in enumerate(self._groups):
            members = self._members(group)
            own = {name: [arrays[i] for i in members] for name, arrays in state.items()}
            self.update(
                [self.params[i] for i in members], [given[i] for i in members], own, dict(options)
            )
        self._advance(1, state)

    def update(
        self,
        params: list[Array],
        grads: list[Array],
        state: dict[str, list[Array]],
        options: dict[str, Any],
    ) -> None:
        """Update the parameters of one group in place: what an optimizer of your own must define.

        Parameters
        ----------
        params, grads : list of ndarray
            The parameters of the group and their gradients, which are checked.
        state : dict of lists of ndarray
            For each of `state_names` an array for each parameter, to be changed in place.
        options : dict
            The options of the group, "lr" among them.
        """
        raise NotImplementedError(
            f"{self._name} does not define update(params, grads, state, options)"
        )

    def _check_grads(self, grads: list[Any]) -> None:
        """Check the gradients of all groups; the kernel does so for one."""
        if len(grads) != len(self.params):
            raise ValueError(
                f"{self._name}.step: grads must hold {len(self.params)} arrays, got {len(grads)}"
            )
        for i, (p, g) in enumerate(zip(self.params, grads, strict=True)):
            name = f"{self._name}.step: grads[{i}]"
            if not isinstance(g, np.ndarray) or g.dtype != p.dtype:
                got = getattr(g, "dtype", type(g).__name__)
                raise TypeError(f"{name} must be an array of {p.dtype}, got {got}")
            if g.shape != p.shape:
                raise ValueError(f"{name} must have the shape {p.shape}, got {g.shape}")
            if any(np.may_share_memory(g, other) for other in self.params):
                raise ValueError(f"{name} shares memory with a parameter")


class NativeOptimizer(Optimizer):
    """Base class of the optimizers whose update is a kernel, one call for all parameters of a group.

    Training runs them inside of its native steps.
    """

    def _set_groups(self, groups: list[dict[str, Any]]) -> None:
        super()._set_groups(groups)
        self._values = [self._step_values(options) for options in groups]

    @staticmethod
    def _step_values(options: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the options as the kernel takes them."""
        raise NotImplementedError

    def _penalty(self, group: int) -> float:  # noqa: ARG002
        """L2 penalty of a group that is part of the loss of a batch, divided by its normalizer."""
        return 0.0

    def _spec(self) -> OptimizerSpec:
        """Describe the parameter groups to native steps."""
        raise NotImplementedError

    def _state_spec(self, state: Mapping[str, list[Array]], i: int) -> SGDState | AdamState:
        """Describe the state of a parameter, of ``state_arrays()``, to native steps."""
        raise NotImplementedError

    def _parameter_groups(self) -> list[int]:
        """Return the number of each parameter's group."""
        return list(self._group_of)

    def step(self, grads: Sequence[Array]) -> None:
        """Update the parameters in place, in one call of the kernel for each group."""
        state = self.state_arrays()
        given: list[Any] = grads if isinstance(grads, list) else list(grads)
        if len(self._groups) == 1:
            self._step_group(self.params, given, state, self._values[0])
        else:
            self._check_grads(given)
            for group, values in enumerate(self._values):
                members = self._members(group)
                params, own, *states = (
                    [arrays[i] for i in members] for arrays in (self.params, given, *state.values())
                )
                self._step_group(params, own, dict(zip(state, states, strict=True)), values)
        self._advance(1, state)

    def _step_group(
        self,
        params: list[Array],
        grads: list[Array],
        state: dict[str, list[Array]],
        values: tuple[Any, ...],
    ) -> None:
        raise NotImplementedError


def set_lrs(optimizer: Any, lrs: Sequence[float]) -> None:
    """Set the learning rates of an optimizer, which may be one of the user's own."""
    if hasattr(optimizer, "set_lrs"):
        optimizer.set_lrs([float(lr) for lr in lrs])
    else:
        optimizer.lr = float(lrs[0])
