"""What optimizers share: groups of parameters with options of their own, and their state."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from dlcore._common.arrays import as_writeable, is_column_major
from dlcore._common.checks import check_flag, check_real
from dlcore._common.ties import owned, tied
from dlcore._native import dispatch
from dlcore.optim._groups import (
    NOTES,
    Cohort,
    Option,
    ParamGroup,
    divided,
    meant_option,
    no_option,
    rebound,
)
from dlcore.optim._state_dict import Saved, StateDictReader, StateNames

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dlcore._common.typing import Array
    from dlcore._native.specs import AdamSpec, AdamState, SGDSpec, SGDState

__all__ = ["Optimizer"]


# Arrays, or groups of them: {"params": arrays, option: value, ...}.
Params = Iterable[Any]


class Optimizer:
    """Base class of the optimizers: groups of parameters with options of their own, and the state.

    One of your own defines `update` and, if it keeps arrays for each parameter from step to step,
    names them in `state_names`. Groups, learning rates, schedules and state dicts then work as for
    `Adam`. Training calls its `step` in Python, after each native pass backward. (A `Trainer` takes
    any object with ``step(grads)`` and ``lr``, too.)

    Options are attributes, too: ``optimizer.momentum = 0.9`` sets that of all groups, unless these
    have different ones, and acts on the next step.

    Parameters
    ----------
    params : iterable of ndarray, or of dict
        The arrays to update, float32 or float64, of any layout; or groups of them, each with
        options of its own, such as ``[{"params": model.parameters("0"), "lr": 1e-4}, ...]``.
    options : dict
        The options by name, "lr" among them: what groups have that bring none of their own.

    Attributes
    ----------
    params : tuple of ndarray
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
    # Of these, what is there for some options alone, and what cannot be negative; whether a state
    # dict has the number of steps.
    _optional_state: ClassVar[frozenset[str]] = frozenset()
    _squares: ClassVar[frozenset[str]] = frozenset()
    _saves_step: ClassVar[bool] = True

    # Options that are numbers, with the range that they must be in, and options that are on or off.
    _ranges: ClassVar[Mapping[str, tuple[float, float]]] = {"lr": (0, math.inf)}
    _flags: ClassVar[tuple[str, ...]] = ()

    def __init__(self, params: Params, options: dict[str, Any]) -> None:
        if "lr" not in options:
            raise ValueError(f"{self._name}: options must have 'lr', got {', '.join(options)}")
        self._defaults = dict(options)
        self._params: tuple[Array, ...] = ()
        groups = self._given_groups(params)
        self._groups: list[ParamGroup] = []
        self._cohorts: list[Cohort] = []
        self._add_groups(groups)
        for name in options:
            if not _is_described(getattr(type(self), name, None)):
                setattr(type(self), name, Option(name))

    def _given_groups(self, params: Any) -> list[tuple[str, Mapping[str, Any]]]:
        """Return groups, each with its name in messages."""
        if not isinstance(params, Iterable):
            called = " write model.parameters()" if callable(params) else ""
            raise TypeError(
                f"{self._name}: params must be arrays or groups of them, "
                f"got {type(params).__name__};{called}".rstrip(";")
            )
        given: list[Any]
        given = [params] if isinstance(params, Mapping | np.ndarray) else list(params)
        are_groups = [isinstance(group, Mapping) for group in given]
        if any(are_groups) and not all(are_groups):
            raise TypeError(f"{self._name}: params must be arrays or groups (dicts), not both")
        groups = given if any(are_groups) else [{"params": given}]
        return [(f"params[{i}]", group) for i, group in enumerate(groups)]

    def _add_groups(self, groups: list[tuple[str, Mapping[str, Any]]]) -> None:
        """Add groups, or none if there is something wrong with one."""
        added = []
        for name, group in groups:
            unknown = sorted(group.keys() - {"params", *NOTES, *self._defaults})
            if unknown or "params" not in group:
                raise ValueError(
                    f"{self._name}: {name} must hold 'params' and options of "
                    f"{', '.join(self._defaults)}, got {', '.join(map(repr, group))}"
                )
            own = group["params"]
            own = [own] if isinstance(own, np.ndarray) else list(own)
            options = {key: value for key, value in group.items() if key != "params"}
            added.append((own, {**self._defaults, **options}))
        params = [*self._params, *(p for own, _ in added for p in own)]
        self._check_params(params)
        new = [ParamGroup(type(self), options, own) for own, options in added]
        self._params = tuple(params)
        at = len(params) - sum(len(own) for own, _ in added)
        for group in new:
            own = list(group["params"])
            if own:
                members = list(range(at, at + len(own)))
                self._cohorts.append(Cohort(group, len(self._groups), members, own))
            self._groups.append(group)
            at += len(own)

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """Add a group of parameters, such as layers that are unfrozen later.

        Their gradients follow those of the other parameters in `step`, and they begin with a step
        count of their own.

        Parameters
        ----------
        param_group : dict
            "params", an array or several, and options; those that it does not have are those that
            the optimizer was made with.

        Raises
        ------
        ValueError, TypeError
            As the constructor does. Nothing is changed then.
        """
        if not isinstance(param_group, Mapping):
            raise TypeError(
                f"{self._name}.add_param_group: param_group must be a dict, "
                f"got {type(param_group).__name__}"
            )
        self._add_groups([("param_group", param_group)])

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _check_params(self, params: Sequence[Any]) -> None:
        if not params:
            raise ValueError(f"{self._name}: params is empty")
        for i, p in enumerate(params):
            name = f"{self._name}: params[{i}]"
            if not isinstance(p, np.ndarray):
                raise TypeError(f"{name} must be an array, got {type(p).__name__}")
            if p.dtype not in (np.float32, np.float64) or not p.dtype.isnative:
                raise TypeError(f"{name} must be a float32 or float64 array, got {p.dtype}")
            if not p.flags.writeable:
                raise ValueError(f"{name} is read-only")
        spans = sorted((*np.lib.array_utils.byte_bounds(p), i) for i, p in enumerate(params))
        open_spans: list[tuple[int, int]] = []  # those that reach beyond the start of the next one
        for low, high, i in spans:
            open_spans = [(end, j) for end, j in open_spans if low < end]
            for _, j in open_spans:
                if np.shares_memory(params[i], params[j]):
                    raise ValueError(f"{self._name}: params[{j}] and params[{i}] share memory")
            open_spans.append((high, i))

    # ---- options

    @classmethod
    def _check_options(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options as what they are from then on, or raise."""
        checked = dict(options)
        for name, (low, high) in cls._ranges.items():
            checked[name] = cls._number(name, options[name], low, high)
        for name in cls._flags:
            checked[name] = check_flag(f"{cls.__name__}: {name}", options[name])
        return checked

    @classmethod
    def _number(cls, name: str, value: Any, low: float, high: float, given: Any = None) -> float:
        where = f"{cls.__name__}: {name}"
        number = check_real(where, value)
        if low <= number < high and math.isfinite(number):
            return number
        given = value if given is None else given
        if low == -math.inf or number == math.inf:
            raise ValueError(f"{where} must be a finite number, got {given}")
        below = "" if high == math.inf else f" and less than {high:g}"
        raise ValueError(f"{where} must be at least {low:g}{below}, got {given}")

    @staticmethod
    def _step_values(options: Mapping[str, Any]) -> Any:
        """Return the options as a step takes them."""
        return dict(options)

    def __setattr__(self, name: str, value: Any) -> None:
        is_new = not (name.startswith("_") or name in self.__dict__ or hasattr(type(self), name))
        if is_new and "_groups" in self.__dict__ and meant_option(name, self._defaults):
            raise AttributeError(no_option(self._name, name, self._defaults))
        super().__setattr__(name, value)

    def _set_option(self, name: str, value: Any) -> None:
        own = [group[name] for group in self._groups]
        if any(other != own[0] for other in own):
            raise ValueError(
                f"{self._name}: the groups have a {name} of their own, {own}; "
                f"param_groups[i][{name!r}] = ... sets that of one"
            )
        checked = [group.checked({name: value}) for group in self._groups]
        for group, options in zip(self._groups, checked, strict=True):
            group.take(options)

    @property
    def params(self) -> tuple[Array, ...]:
        """All parameters, in the order in which `step` takes their gradients."""
        return self._params

    @property
    def steps(self) -> int:
        """Steps that were made, the most of any parameter."""
        return max((cohort.steps for cohort in self._cohorts), default=0)

    @property
    def param_groups(self) -> tuple[ParamGroup, ...]:
        """The options of each group with its parameters, as dicts: what is set there acts at once."""
        return tuple(self._groups)

    @property
    def lrs(self) -> list[float]:
        """The learning rate of each group."""
        return [float(group["lr"]) for group in self._groups]

    def set_lrs(self, lrs: Sequence[float]) -> None:
        """Set the learning rate of each group."""
        if len(lrs) != len(self._groups):
            raise ValueError(
                f"{self._name}: lrs must hold {len(self._groups)} numbers, got {len(lrs)}"
            )
        pairs = zip(self._groups, lrs, strict=True)
        checked = [group.checked({"lr": lr}) for group, lr in pairs]
        for group, options in zip(self._groups, checked, strict=True):
            group.take(options)

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
                [f"{len(group['params'])} arrays"]
                + [f"{name}={value}" for name, value in group.items() if name != "params"]
            )
            for group in self._groups
        ]
        return f"{self._name}({'; '.join(groups)})"

    # ---- state

    def _state_names(self, options: Mapping[str, Any]) -> tuple[str, ...]:  # noqa: ARG002
        """Name the state that a step with these options takes, in the order of the kernel."""
        return self.state_names

    def _prepare(self, cohort: Cohort) -> None:
        """Make the state that the next step takes."""
        names = self._state_names(cohort.group)
        for name in names:
            if name not in cohort.state:
                cohort.state[name] = _zeros(cohort.params)
                cohort.fresh = (*cohort.fresh, name)
            # What was loaded as a read-only map of a file is copied when it is first written.
            own = [as_writeable(array) for array in cohort.state[name]]
            if cohort.params:  # a copy of an optimizer has none before it is bound to a model
                # Each array lies in memory as its parameter does, for native steps.
                own = [
                    np.asarray(array, order="F" if is_column_major(p) else "C")
                    for array, p in zip(own, cohort.params, strict=True)
                ]
            cohort.state[name] = own
        values = cohort.group.step_values
        taken = tuple(cohort.state[name] for name in names)
        cohort.part, cohort.part_for = (cohort.members, cohort.params, taken, values), values

    def state_arrays(self) -> dict[str, list[Array]]:
        """Return the state by name, an array for each parameter that has it; zeros before a step."""
        arrays: dict[str, dict[int, Array]] = {}
        for cohort in self._cohorts:
            if cohort.part_for is not cohort.group.step_values:
                self._prepare(cohort)
            for name, own in cohort.state.items():
                arrays.setdefault(name, {}).update(zip(cohort.members, own, strict=True))
        return {name: [own[i] for i in sorted(own)] for name, own in arrays.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return options and state in PyTorch's layout; the arrays are copies.

        Returns
        -------
        dict
            ``{"state": {i: {name: array or number}}, "param_groups": [{option: value, "params": [...]}]}``.
        """
        state = {}
        for cohort in self._cohorts:
            used = [name for name in cohort.state if name not in cohort.fresh]
            step = {"step": cohort.steps} if self._saves_step and cohort.steps else {}
            for j, i in enumerate(cohort.members if step or used else []):
                state[i] = {**step, **{name: cohort.state[name][j].copy() for name in used}}
        groups = [{**group, "params": []} for group in self._groups]
        for cohort in self._cohorts:
            groups[cohort.number]["params"] += cohort.members
        for group in groups:
            group["params"].sort()
        return {"state": dict(sorted(state.items())), "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over the options and state of `state_dict`; the arrays are copied.

        PyTorch's are read as well, with arrays or what NumPy reads without a copy as values: options
        that they lack are those that this optimizer was made with, and parameters without state
        begin anew.

        Raises
        ------
        ValueError
            If it does not fit: another number of parameters, other names, other shapes, an option
            or a step out of range, NaN, squares that are negative. Nothing is changed then.
        TypeError
            If an array has another dtype than its parameter.
        """
        names = StateNames(self._saves_step, self.state_names, self._optional_state, self._squares)
        reader = StateDictReader(self._name, self._groups, self._defaults, names)
        options, saved = reader.read(state_dict)
        for group, of_group in zip(self._groups, options, strict=True):
            group.take(of_group)
        self._take_state(saved)

    def _take_state(self, saved: Sequence[Saved]) -> None:
        """Take over the state of each parameter, in the order of the groups."""
        members = [
            sorted(i for c in self._cohorts if c.number == n for i in c.members)
            for n in range(len(self._groups))
        ]
        cohorts: dict[Any, Cohort] = {}
        rest = iter(saved)
        for number, group in enumerate(self._groups):
            for i in members[number]:
                steps, arrays = next(rest)
                key = (number, steps, *arrays)
                if key not in cohorts:
                    state: dict[str, list[Array]] = {name: [] for name in arrays}
                    cohorts[key] = Cohort(group, number, [], [], steps, state)
                cohorts[key].members.append(i)
                cohorts[key].params.append(self._params[i])
                for name, array in arrays.items():
                    cohorts[key].state[name].append(array)
        self._cohorts = list(cohorts.values())

    # ---- steps

    def step(self, grads: Sequence[Array | None]) -> None:
        """Update the parameters in place.

        Parameters
        ----------
        grads : sequence of ndarray or None
            One for each parameter, of its shape and dtype. They are not changed. A parameter whose
            gradient is None stays as it is, with its state and its number of steps.

        Raises
        ------
        TypeError
            If a gradient has another dtype than its parameter.
        ValueError
            If the number of gradients or a shape differs, or a gradient shares memory with a
            parameter. Nothing is changed then.
        """
        # A list of its own, which no other thread changes while the native code reads it.
        given: Any = grads
        given = [given] if isinstance(given, np.ndarray) else list(given)
        if len(given) != len(self._params):
            raise ValueError(
                f"{self._name}.step: grads must hold one array for each parameter, "
                f"{len(self._params)}, got {len(given)}"
            )
        cohorts = self._cohorts
        if not self._update(given, cohorts):
            cohorts = self._active([g is not None for g in given])
            self._update(given, cohorts)
        for cohort in cohorts:
            cohort.steps += 1
            if cohort.fresh:
                cohort.fresh = ()

    def _active(self, active: Sequence[bool]) -> list[Cohort]:
        """Return cohorts of the active parameters alone."""
        self._cohorts = divided(self._cohorts, active)
        return [cohort for cohort in self._cohorts if active[cohort.members[0]]]

    def _update(self, grads: list[Any], cohorts: Sequence[Cohort]) -> bool:
        """Update these parameters; return False, without a change, if a gradient of them is None."""
        if any(grads[i] is None for cohort in cohorts for i in cohort.members):
            return False
        where = f"{self._name}.step"
        checked: Any = dispatch.core.check_gradients(where, list(self._params), grads)
        for cohort in cohorts:
            self._prepare(cohort)
            self.update(
                list(cohort.params),
                [checked[i] for i in cohort.members],
                dict(cohort.state),
                dict(cohort.group.step_values),
            )
        return True

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
            The parameters of the group and their gradients, which are checked. Parameters of a group
            that have not made the same steps come in calls of their own.
        state : dict of lists of ndarray
            For each of `state_names` an array for each parameter, to be changed in place.
        options : dict
            The options of the group, "lr" among them.
        """
        raise NotImplementedError(
            f"{self._name} does not define update(params, grads, state, options)"
        )

    def _bind(self, params: Sequence[Array]) -> None:
        """Take other arrays of the same shapes in the place of the parameters."""
        self._groups, self._cohorts = rebound(self._groups, self._cohorts, params)
        self._params = tuple(params)

    # ---- copies

    def __copy__(self) -> Self:
        # Of the same parameters, with options and state of its own.
        memo: dict[int, Any] = {id(p): p for p in self._params}
        return copy.deepcopy(self, memo)

    # The parameters are written once, and tied to the model that they belong to.
    def __getstate__(self) -> dict[str, Any]:
        groups, cohorts = rebound(self._groups, self._cohorts, None)
        own = {"_groups": groups, "_cohorts": cohorts, "_tie": tied(self._params)}
        return self.__dict__ | own

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        tie = self.__dict__.pop("_tie")
        if self._params:
            self._bind(owned(self._params))
        if tie is not None:
            tie[0].bring_holder(self, tie[1])


class NativeOptimizer(Optimizer):
    """Base class of the optimizers whose update is a kernel, one call for all parameters.

    Training runs them inside of its native steps.
    """

    def _penalty(self, group: int) -> float:  # noqa: ARG002
        """L2 penalty of a group that is part of the loss of a batch, divided by its normalizer."""
        return 0.0

    def _add_penalty(self, grads: Sequence[Array | None], normalizer: float) -> float:
        """Add to gradients what the penalties on a batch add; return the squared norm of what has one."""
        squares = 0.0
        for cohort in self._cohorts:
            penalty = self._penalty(cohort.number)
            for i in cohort.members if penalty > 0 else ():
                value, grad = self._params[i], grads[i]
                squares += float(np.square(value, dtype=np.float64).sum())
                if grad is not None and normalizer > 0:
                    grad += value.dtype.type(penalty / normalizer) * value
        return squares

    def _spec(self, cohort: Cohort) -> SGDSpec | AdamSpec:
        """Describe the options of a cohort to native steps."""
        raise NotImplementedError

    def _state_spec(self, cohort: Cohort, j: int) -> SGDState | AdamState:
        """Describe the state of the cohort's parameter number j to native steps."""
        raise NotImplementedError

    def _begin(self, active: Sequence[bool]) -> list[Cohort]:
        """Return the cohorts that native steps update, with their state."""
        cohorts = self._active(active)
        self._parts(cohorts)
        return cohorts

    def _parts(self, cohorts: Sequence[Cohort]) -> list[tuple[Any, ...]]:
        """Return what the kernel takes."""
        parts = []
        for cohort in cohorts:
            if cohort.part_for is not cohort.group.step_values:
                self._prepare(cohort)
            parts.append((cohort.part, cohort.steps, cohort.fresh))
        return parts


def _is_described(attribute: Any) -> bool:
    """Whether an attribute of a class is more than a value that an option could hide."""
    return isinstance(attribute, Option | property) or callable(attribute)


def _zeros(params: list[Array]) -> list[Array]:
    """Return an array of zeros for each parameter, in one block of memory for each dtype."""
    zeros: list[Array] = [np.empty(0)] * len(params)
    for dtype in {p.dtype for p in params}:
        mine = [i for i, p in enumerate(params) if p.dtype == dtype]
        block = np.zeros(sum(params[i].size for i in mine), dtype)
        at = 0
        for i in mine:
            p = params[i]
            zeros[i] = block[at : at + p.size].reshape(p.shape)
            at += p.size
    return zeros


def set_lrs(optimizer: Any, lrs: Sequence[float]) -> None:
    """Set the learning rates of an optimizer, which may be one of the user's own."""
    if hasattr(optimizer, "set_lrs"):
        optimizer.set_lrs([float(lr) for lr in lrs])
    else:
        optimizer.lr = float(lrs[0])
