"""Groups of parameters: live options, and which parameters have made the same steps."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from dlcore._common.typing import Array

# What users note in a group for themselves, as in PyTorch.
NOTES = ("name", "initial_lr")

# What options are called elsewhere.
_ELSEWHERE = {
    "learning_rate": "lr",
    "beta1": "betas",
    "beta2": "betas",
    "beta_1": "betas",
    "beta_2": "betas",
    "epsilon": "eps",
}


class ParamGroup(dict[str, Any]):
    """The options of a group by name, and under "params" its parameters.

    What is assigned is checked as in the constructor of the optimizer, and acts on the next step. A
    group may have a "name" and an "initial_lr" as well, which are the user's own.
    """

    __slots__ = ("_kind", "step_values")

    def __init__(
        self, kind: type[Any], options: Mapping[str, Any], params: Iterable[Array]
    ) -> None:
        super().__init__(params=tuple(params))
        self._kind = kind
        self.take(kind._check_options(options))

    def options(self) -> dict[str, Any]:
        """Return the options alone."""
        return {name: value for name, value in self.items() if name not in ("params", *NOTES)}

    def checked(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options with these changes, if they are in range."""
        for name in changes:
            if name == "params":
                raise TypeError(
                    f"{self._kind.__name__}: the parameters of a group stay; "
                    f"add_param_group(...) adds others"
                )
            if name not in self and name not in NOTES:
                raise ValueError(no_option(self._kind.__name__, name, self.options()))
        notes = {name: self[name] for name in NOTES if name in self}
        options: dict[str, Any] = self._kind._check_options({**self.options(), **notes, **changes})
        return options

    def take(self, options: Mapping[str, Any]) -> None:
        """Take over options that are checked."""
        super().update(options)
        # What a step takes, made once for all until the next change.
        self.step_values = self._kind._step_values(self.options())

    def __setitem__(self, name: str, value: Any) -> None:
        self.take(self.checked({name: value}))

    def update(self, *others: Any, **options: Any) -> None:
        """Set several options at once, or none if one is out of range."""
        self.take(self.checked(dict(*others, **options)))

    def __ior__(self, other: Any) -> ParamGroup:  # type: ignore[override, misc]  # noqa: PYI034
        self.update(other)
        return self

    def setdefault(self, name: str, default: Any = None) -> Any:
        """Return the option; what there is none of must be a note of the user's."""
        if name not in self:
            self[name] = default
        return self[name]

    def _stays(self, *_: Any) -> NoReturn:
        raise TypeError(f"{self._kind.__name__}: the options of a group cannot be removed")

    __delitem__ = pop = popitem = clear = _stays

    def __reduce__(self) -> tuple[Any, ...]:
        notes = {name: self[name] for name in NOTES if name in self}
        return ParamGroup, (self._kind, {**self.options(), **notes}, self["params"])


class Option:
    """An option of all groups as an attribute of the optimizer."""

    def __init__(self, name: str = "") -> None:
        self._name = name

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, optimizer: Any, owner: type | None = None) -> Any:
        if optimizer is None:
            return self
        if "_groups" not in optimizer.__dict__:  # an attribute of a subclass, not made yet
            return optimizer.__dict__[self._name]
        return optimizer._groups[0][self._name]

    def __set__(self, optimizer: Any, value: Any) -> None:
        if "_groups" not in optimizer.__dict__:
            optimizer.__dict__[self._name] = value
        else:
            optimizer._set_option(self._name, value)


def option() -> Any:
    """Return an `Option`, which has the type of its values."""
    return Option()


def no_option(owner: str, name: str, options: Iterable[str]) -> str:
    """Say that there is no such option, and which one was meant."""
    meant = meant_option(name, options)
    there = f"did you mean {meant!r}?" if meant else f"there are {', '.join(options)}"
    return f"{owner} has no option {name!r}; {there}"


def meant_option(name: str, options: Iterable[str]) -> str | None:
    """Return the option that a wrong name stands for, if that can be told."""
    options = list(options)
    if _ELSEWHERE.get(name) in options:
        return _ELSEWHERE[name]
    return next(iter(difflib.get_close_matches(name, options, 1, 0.8)), None)


@dataclass(eq=False, slots=True)
class Cohort:
    """Parameters of one group that have made the same steps: one call of a kernel updates them."""

    group: ParamGroup
    number: int  # of the group
    members: list[int]  # the numbers of the parameters
    params: list[Array]
    steps: int = 0
    # The state by name, an array for each parameter, and which of it no step has used yet.
    state: dict[str, list[Array]] = field(default_factory=dict)
    fresh: tuple[str, ...] = ()
    # What the kernel takes, made for these options: members, parameters, lists of state, options.
    part: tuple[list[int], list[Array], tuple[list[Array], ...], Any] | None = None
    part_for: Any = None

    @property
    def taken(self) -> tuple[list[Array], ...]:
        """The lists of state that the next step takes."""
        return () if self.part is None else self.part[2]

    def advance(self, steps: int) -> None:
        """Count steps that were made with all of the state."""
        if steps:
            self.steps += steps
            self.fresh = ()


def divided(cohorts: Sequence[Cohort], active: Sequence[bool]) -> list[Cohort]:
    """Return cohorts of which each is active as a whole or not at all."""
    if all(active) or all(len({active[i] for i in c.members}) == 1 for c in cohorts):
        return list(cohorts)
    parts: dict[Any, Cohort] = {}
    for cohort in cohorts:
        for j, i in enumerate(cohort.members):
            key = (cohort.number, active[i], cohort.steps, cohort.fresh, *sorted(cohort.state))
            part = parts.get(key)
            if part is None:
                part = replace(cohort, members=[], params=[], part=None, part_for=None)
                part.state = {name: [] for name in cohort.state}
                parts[key] = part
            part.members.append(i)
            part.params.append(cohort.params[j])
            for name, arrays in cohort.state.items():
                part.state[name].append(arrays[j])
    return list(parts.values())


def rebound(
    groups: Sequence[ParamGroup], cohorts: Sequence[Cohort], params: Sequence[Array] | None
) -> tuple[list[ParamGroup], list[Cohort]]:
    """Return groups and cohorts with other arrays as parameters, or with None of them."""
    new_groups, new_cohorts = [], []
    for number, group in enumerate(groups):
        members = sorted(i for c in cohorts if c.number == number for i in c.members)
        of_group = [] if params is None else [params[i] for i in members]
        kind, options, _ = group.__reduce__()[1]
        new_groups.append(ParamGroup(kind, options, of_group))
    for cohort in cohorts:
        of_cohort = [] if params is None else [params[i] for i in cohort.members]
        new_cohorts.append(
            replace(
                cohort,
                group=new_groups[cohort.number],
                params=of_cohort,
                state={name: list(arrays) for name, arrays in cohort.state.items()},
                part=None,
                part_for=None,
            )
        )
    return new_groups, new_cohorts
