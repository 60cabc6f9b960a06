"""Learning-rate schedules, by PyTorch's names and numbers: values by step, without state."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._common.checks import check_choice, check_flag, check_int, check_number, check_real

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dlcore._common.typing import Array

__all__ = [
    "ConstantLR",
    "CosLogLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "ExponentialLR",
    "FlatCosineLR",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "OneCycleLR",
    "PolynomialLR",
    "Schedule",
    "SequentialLR",
    "StepLR",
    "Warmup",
]


@dataclass(frozen=True, repr=False)
class Schedule:
    """Base class of the schedules: a learning rate that changes with time.

    A subclass defines `rates`. Schedules hold nothing but their arguments: they are compared by
    value, and any step can be asked for at any time.

    Parameters
    ----------
    per : {"epoch", "iteration"}
        What a step is: an epoch, or an update of the parameters.
    """

    per: str = field(default="epoch", kw_only=True)

    def __post_init__(self) -> None:
        check_choice(f"{self._name}: per", self.per, ("epoch", "iteration"))

    def __call__(self, step: int, lr: float) -> float:
        """Compute the learning rate after ``step`` epochs or iterations.

        Parameters
        ----------
        step : int
            How many are done, from 0.
        lr : float
            The learning rate that the optimizer was made with.

        Returns
        -------
        float
        """
        return float(self.values(step, 1, lr)[0])

    def values(self, start: int, count: int, lr: float) -> Array:
        """Compute the learning rates of the steps ``start`` to ``start + count - 1``.

        Parameters
        ----------
        start : int
            The first step, from 0.
        count : int
            How many.
        lr : float
            The learning rate that the optimizer was made with.

        Returns
        -------
        ndarray of float64 of shape (count,)
            Each is what a call with this step returns, bit for bit.

        Raises
        ------
        ValueError
            If an argument is not as described, or a rate is negative or not finite.
        """
        start = check_int(f"{self._name}: step", start, least=0)
        count = check_int(f"{self._name}: count", count, least=0)
        lr = check_number(f"{self._name}: lr", lr, "[0, inf)")
        with np.errstate(over="ignore"):
            rates = self.rates(np.arange(start, start + count), lr)
        bad = np.flatnonzero(~((rates >= 0) & (rates < math.inf)))
        if bad.size:
            raise ValueError(
                f"{self!r} gives {rates[bad[0]]} at step {start + bad[0]}; "
                f"learning rates are finite and not negative"
            )
        return rates

    def rates(self, steps: Array, lr: float) -> Array:
        """Return the learning rates of these steps, an array of int64, as float64."""
        raise NotImplementedError(f"{self._name} does not define rates(steps, lr)")

    def __repr__(self) -> str:
        arguments = {own.name: getattr(self, own.name) for own in fields(self)}
        per = arguments.pop("per")
        shown = [f"{name}={value!r}" for name, value in arguments.items()]
        shown += [f"per={per!r}"] * (per != "epoch")
        return f"{self._name}({', '.join(shown)})"

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)  # the class is frozen

    def _check_count(self, name: str) -> None:
        """Make sure that an argument is a positive integer."""
        self._set(name, check_int(f"{self._name}: {name}", getattr(self, name), least=1))

    def _check_number(self, name: str, interval: str) -> None:
        """Make sure that an argument is in an interval such as "(0, 1]"."""
        self._set(name, check_number(f"{self._name}: {name}", getattr(self, name), interval))


@dataclass(frozen=True, repr=False)
class ConstantLR(Schedule):
    """A smaller learning rate at first: times ``factor`` for the first ``total_iters`` steps.

    Parameters
    ----------
    factor : float
        In [0, 1].
    total_iters : int
    per : {"epoch", "iteration"}

    Notes
    -----
    ``lr * factor`` if ``t < total_iters``, else ``lr``.
    """

    factor: float = 1 / 3
    total_iters: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_number("factor", "[0, 1]")
        self._check_count("total_iters")

    def rates(self, steps: Array, lr: float) -> Array:
        return np.where(steps < self.total_iters, lr * self.factor, lr)


@dataclass(frozen=True, repr=False)
class StepLR(Schedule):
    """Decay in stairs: times ``gamma`` every ``step_size`` steps.

    Parameters
    ----------
    step_size : int
    gamma : float
        Positive.
    per : {"epoch", "iteration"}

    Notes
    -----
    ``lr * gamma ** (t // step_size)``
    """

    step_size: int
    gamma: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_count("step_size")
        self._check_number("gamma", "(0, inf)")

    def rates(self, steps: Array, lr: float) -> Array:
        return lr * self.gamma ** (steps // self.step_size)


@dataclass(frozen=True, repr=False)
class MultiStepLR(Schedule):
    """Decay in stairs: times ``gamma`` at each milestone.

    Parameters
    ----------
    milestones : sequence of int
        Steps, in any order; one that is there twice counts twice.
    gamma : float
        Positive.
    per : {"epoch", "iteration"}

    Notes
    -----
    ``lr * gamma ** (number of milestones that are <= t)``

    References
    ----------
    He, Zhang, Ren, Sun: Deep residual learning for image recognition, CVPR 2016.
    """

    milestones: Sequence[int]
    gamma: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set("milestones", tuple(sorted(_as_milestones(self._name, self.milestones))))
        self._check_number("gamma", "(0, inf)")

    def rates(self, steps: Array, lr: float) -> Array:
        return lr * self.gamma ** np.searchsorted(self.milestones, steps, side="right")


@dataclass(frozen=True, repr=False)
class ExponentialLR(Schedule):
    """Exponential decay: times ``gamma`` every step.

    Parameters
    ----------
    gamma : float
        Positive.
    per : {"epoch", "iteration"}

    Notes
    -----
    ``lr * gamma ** t``
    """

    gamma: float

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_number("gamma", "(0, inf)")

    def rates(self, steps: Array, lr: float) -> Array:
        return lr * self.gamma**steps


@dataclass(frozen=True, repr=False)
class LinearLR(Schedule):
    """A straight line from ``lr * start_factor`` to ``lr * end_factor``, which then stays.

    Parameters
    ----------
    start_factor, end_factor : float
        In [0, 1].
    total_iters : int
        Steps until the end of the line.
    per : {"epoch", "iteration"}

    Notes
    -----
    ``lr * (start_factor + (end_factor - start_factor) * min(t, total_iters) / total_iters)``
    """

    start_factor: float = 1 / 3
    end_factor: float = 1.0
    total_iters: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_number("start_factor", "[0, 1]")
        self._check_number("end_factor", "[0, 1]")
        self._check_count("total_iters")

    def rates(self, steps: Array, lr: float) -> Array:
        share = np.minimum(steps, self.total_iters) / self.total_iters
        return lr * (self.start_factor + (self.end_factor - self.start_factor) * share)


@dataclass(frozen=True, repr=False)
class PolynomialLR(Schedule):
    """Polynomial decay to 0 after ``total_iters`` steps.

    Parameters
    ----------
    total_iters : int
    power : float
        Not negative; 1 is a straight line.
    per : {"epoch", "iteration"}

    Notes
    -----
    ``lr * (1 - min(t, total_iters) / total_iters) ** power``
    """

    total_iters: int = 5
    power: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_count("total_iters")
        self._check_number("power", "[0, inf)")

    def rates(self, steps: Array, lr: float) -> Array:
        left: Array = 1.0 - np.minimum(steps, self.total_iters) / self.total_iters
        return lr * left**self.power


@dataclass(frozen=True, repr=False)
class CosineAnnealingLR(Schedule):
    """Half a cosine from ``lr`` down to ``eta_min`` after ``T_max`` steps.

    Parameters
    ----------
    T_max : int
        Steps from the greatest rate to the least.
    eta_min : float
        The least rate.
    per : {"epoch", "iteration"}

    Notes
    -----
    ``eta_min + (lr - eta_min) * (1 + cos(pi * t / T_max)) / 2``. After ``T_max`` steps the cosine
    goes on and the rate rises again, as in PyTorch.

    References
    ----------
    Loshchilov, Hutter: SGDR: Stochastic gradient descent with warm restarts, ICLR 2017.
    """

    T_max: int
    eta_min: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_count("T_max")
        self._check_number("eta_min", "[0, inf)")

    def rates(self, steps: Array, lr: float) -> Array:
        return _cosine(lr, self.eta_min, steps % (2 * self.T_max) / self.T_max)


@dataclass(frozen=True, repr=False)
class CosineAnnealingWarmRestarts(Schedule):
    """Half a cosine from ``lr`` to ``eta_min``, again and again from the start.

    Parameters
    ----------
    T_0 : int
        Steps of the first cycle.
    T_mult : int
        Each cycle is this many times as long as the one before.
    eta_min : float
        What each cycle goes down to.
    per : {"epoch", "iteration"}

    Notes
    -----
    ``eta_min + (lr - eta_min) * (1 + cos(pi * t_i / T_i)) / 2`` in step ``t_i`` of cycle ``i``,
    which has ``T_i = T_0 * T_mult ** i`` steps.

    References
    ----------
    Loshchilov, Hutter: SGDR: Stochastic gradient descent with warm restarts, ICLR 2017.
    """

    T_0: int
    T_mult: int = 1
    eta_min: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_count("T_0")
        self._check_count("T_mult")
        self._check_number("eta_min", "[0, inf)")

    def rates(self, steps: Array, lr: float) -> Array:
        if self.T_mult == 1:
            return _cosine(lr, self.eta_min, steps % self.T_0 / self.T_0)
        starts, lengths = [0], [self.T_0]
        while starts[-1] + lengths[-1] <= steps.max(initial=0):
            starts.append(starts[-1] + lengths[-1])
            lengths.append(lengths[-1] * self.T_mult)
        cycle = np.searchsorted(starts, steps, side="right") - 1
        share = (steps - np.array(starts)[cycle]) / np.array(lengths)[cycle]
        return _cosine(lr, self.eta_min, share)


@dataclass(frozen=True, repr=False)
class FlatCosineLR(Schedule):
    """``lr`` at first, then half a cosine down to 0 after ``total_iters`` steps.

    Parameters
    ----------
    total_iters : int
        Steps until the end of the cosine; the rate stays 0 from there on.
    flat : float
        Share of the steps, in [0, 1], for which the rate stays as it is.
    per : {"epoch", "iteration"}

    Notes
    -----
    ``lr`` up to the share ``flat`` of the steps, then ``lr * (1 + cos(pi * s)) / 2``, where ``s``
    goes from 0 to 1 in what is left of them.

    References
    ----------
    Holzmüller, Grinsztajn, Steinwart: Better by default: strong pre-tuned MLPs and boosted trees on
    tabular data, NeurIPS 2024 (flat_cos, of weight decay and dropout).
    """

    total_iters: int
    flat: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_count("total_iters")
        self._check_number("flat", "[0, 1]")

    def rates(self, steps: Array, lr: float) -> Array:
        done = np.minimum(steps, self.total_iters) / self.total_iters
        share = np.zeros(len(steps))  # without a cosine the rate stays to the end
        np.divide(np.maximum(done - self.flat, 0), 1 - self.flat, out=share, where=self.flat < 1)
        return _cosine(lr, 0.0, share)


@dataclass(frozen=True, repr=False)
class CosLogLR(Schedule):
    """Cycles from 0 up to ``lr`` and down to 0 again, each twice as long as the one before.

    Parameters
    ----------
    total_iters : int
        Steps of all cycles together; the rate stays 0 from there on.
    cycles : int
        How many.
    per : {"epoch", "iteration"}

    Notes
    -----
    ``lr * (1 - cos(2 * pi * log2(1 + (2 ** cycles - 1) * t / total_iters))) / 2``. The first step
    has the rate 0.

    References
    ----------
    Holzmüller, Grinsztajn, Steinwart: Better by default: strong pre-tuned MLPs and boosted trees on
    tabular data, NeurIPS 2024 (coslog4).
    """

    total_iters: int
    cycles: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_count("total_iters")
        self._check_count("cycles")
        if self.cycles > 50:
            raise ValueError(f"CosLogLR: cycles must be at most 50, not {self.cycles}")

    def rates(self, steps: Array, lr: float) -> Array:
        done = np.minimum(steps, self.total_iters) / self.total_iters
        cycle = np.log2(1 + (2.0**self.cycles - 1) * done)
        # (1 - cos(2 a)) / 2, without the cancellation where the rate is near 0
        return lr * np.sin(np.pi * (cycle - np.floor(cycle))) ** 2


@dataclass(frozen=True, repr=False)
class OneCycleLR(Schedule):
    """The 1cycle policy: up to ``max_lr``, then down to next to nothing.

    Parameters
    ----------
    max_lr : float, optional
        The greatest rate; that of the optimizer if not given.
    total_steps : int
        Steps of the cycle, usually iterations (``per="iteration"``).
    pct_start : float
        Share of the steps, in [0, 1], in which the rate rises.
    anneal_strategy : {"cos", "linear"}
        Half a cosine or a straight line between the rates.
    div_factor : float
        The first rate is ``max_lr / div_factor``,
    final_div_factor : float
        and the last one this many times less.
    three_phase : bool
        Whether the rate first falls as long as it rose, back to the first rate, as in the paper.
        Then ``pct_start`` should be less than 1/2.
    per : {"epoch", "iteration"}

    Raises
    ------
    ValueError
        Of ``values`` and of a call: for steps from ``total_steps`` on.

    Notes
    -----
    The first phase ends at step ``pct_start * total_steps - 1``, that of three phases at twice this,
    and the last one at ``total_steps - 1``. From ``a`` to ``b`` at the share ``s`` of a phase the
    rate is ``b + (a - b) * (1 + cos(pi * s)) / 2`` or ``a + (b - a) * s``. Momentum is left alone;
    in PyTorch that is ``cycle_momentum=False``.

    References
    ----------
    Smith, Topin: Super-convergence: very fast training of neural networks using large learning
    rates, arXiv:1708.07120, 2018.
    """

    max_lr: float | None = None
    _: KW_ONLY
    total_steps: int
    pct_start: float = 0.3
    anneal_strategy: str = "cos"
    div_factor: float = 25.0
    final_div_factor: float = 1e4
    three_phase: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_lr is not None:
            self._check_number("max_lr", "(0, inf)")
        self._check_count("total_steps")
        self._check_number("pct_start", "[0, 1]")
        check_choice("OneCycleLR: anneal_strategy", self.anneal_strategy, ("cos", "linear"))
        self._check_number("div_factor", "(0, inf)")
        self._check_number("final_div_factor", "(0, inf)")
        self._set("three_phase", check_flag("OneCycleLR: three_phase", self.three_phase))

    def rates(self, steps: Array, lr: float) -> Array:
        beyond = steps[steps >= self.total_steps]
        if beyond.size:
            raise ValueError(
                f"OneCycleLR: step {beyond[0]} is beyond the cycle, whose {self.total_steps} steps "
                f"are counted from 0; total_steps must be that of the whole training"
            )
        most = lr if self.max_lr is None else self.max_lr
        first = most / self.div_factor
        rise = self.pct_start * self.total_steps - 1
        ends, corners = [rise], [first, most]
        if self.three_phase:
            ends.append(2 * self.pct_start * self.total_steps - 2)
            corners.append(first)
        ends.append(self.total_steps - 1.0)
        corners.append(first / self.final_div_factor)
        phase = np.searchsorted(ends, steps)  # the first one that does not end before the step
        start, end = np.array([0.0, *ends[:-1]])[phase], np.array(ends)[phase]
        share = np.ones(len(steps))  # a phase of one step is at its end
        np.divide(steps - start, end - start, out=share, where=end != start)
        low, high = np.array(corners)[phase], np.array(corners)[phase + 1]
        anneal = _cosine if self.anneal_strategy == "cos" else _line
        return anneal(low, high, share)


@dataclass(frozen=True, repr=False)
class LambdaLR(Schedule):
    """The learning rate times ``function(step)``.

    Parameters
    ----------
    function : callable
        ``function(step) -> factor``. The schedule can be pickled if the function can.
    per : {"epoch", "iteration"}
    """

    function: Callable[[int], float]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not callable(self.function):
            raise TypeError(f"LambdaLR: function must be callable, not {self.function!r}")

    def rates(self, steps: Array, lr: float) -> Array:
        factors = [
            check_real(f"LambdaLR: function({step})", self.function(step))
            for step in steps.tolist()
        ]
        return lr * np.array(factors, np.float64)


@dataclass(frozen=True, repr=False)
class SequentialLR(Schedule):
    """One schedule after the other, each from its own step 0.

    Parameters
    ----------
    schedules : sequence of Schedule
    milestones : sequence of int
        The first step of each but the first one, ascending.
    per : {"epoch", "iteration"}
        That of the schedules.
    """

    schedules: Sequence[Schedule]
    milestones: Sequence[int]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not np.iterable(self.schedules):
            raise TypeError(f"SequentialLR: schedules must be a sequence, not {self.schedules!r}")
        self._set("schedules", tuple(self.schedules))
        for schedule in self.schedules:
            _check_part(self, schedule)
        self._set("milestones", _as_milestones(self._name, self.milestones))
        if len(self.milestones) != len(self.schedules) - 1:
            raise ValueError(
                f"SequentialLR: milestones must be one less than schedules, but there are "
                f"{len(self.milestones)} and {len(self.schedules)}"
            )
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"SequentialLR: milestones must ascend, not {self.milestones}")

    def rates(self, steps: Array, lr: float) -> Array:
        rates = np.empty(len(steps))
        active = np.searchsorted(self.milestones, steps, side="right")
        for i, (schedule, start) in enumerate(
            zip(self.schedules, (0, *self.milestones), strict=True)
        ):
            rates[active == i] = schedule.rates(steps[active == i] - start, lr)
        return rates


@dataclass(frozen=True, repr=False)
class Warmup(Schedule):
    """A straight line from ``lr * start_factor`` up to ``lr``, then another schedule.

    Parameters
    ----------
    schedule : Schedule, optional
        What follows, from its own step 0; the rate stays ``lr`` if not given.
    steps : int
        Steps of the warm-up.
    start_factor : float
        In [0, 1].
    per : {"epoch", "iteration"}
        That of the schedule.

    Notes
    -----
    ``lr * (start_factor + (1 - start_factor) * t / steps)`` if ``t < steps``, else
    ``schedule(t - steps)``: `SequentialLR` of `LinearLR` and the schedule.

    References
    ----------
    Goyal et al.: Accurate, large minibatch SGD: training ImageNet in 1 hour, arXiv:1706.02677, 2017.
    """

    schedule: Schedule | None = None
    _: KW_ONLY
    steps: int
    start_factor: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.schedule is not None:
            _check_part(self, self.schedule)
        self._check_count("steps")
        self._check_number("start_factor", "[0, 1]")

    def rates(self, steps: Array, lr: float) -> Array:
        line = LinearLR(self.start_factor, total_iters=self.steps, per=self.per)
        after = self.schedule or ConstantLR(factor=1.0, per=self.per)
        return SequentialLR([line, after], [self.steps], per=self.per).rates(steps, lr)


def _as_milestones(name: str, milestones: Any) -> tuple[int, ...]:
    """Return the milestones, which must be positive integers."""
    if not np.iterable(milestones):
        raise ValueError(f"{name}: milestones must be a sequence of integers, not {milestones!r}")
    return tuple(
        check_int(f"{name}: each of milestones", milestone, least=1) for milestone in milestones
    )


def _check_part(whole: Schedule, part: object) -> None:
    """Make sure that a part of a schedule is a schedule of the same steps."""
    name = type(whole).__name__
    if not isinstance(part, Schedule):
        raise TypeError(f"{name}: {part!r} is not a Schedule")
    if part.per != whole.per:
        raise ValueError(
            f"{name}: per is {whole.per!r}, but that of {part!r} is {part.per!r}; "
            f"pass the same to both"
        )


def _line(start: Array, end: Array, share: Array) -> Array:
    """Go straight from ``start`` at share 0 to ``end`` at 1."""
    rates: Array = (end - start) * share + start
    return rates


def _cosine(start: float | Array, end: float | Array, share: Array) -> Array:
    """Go along half a cosine from ``start`` at share 0 to ``end`` at 1."""
    rates: Array = end + (start - end) / 2 * (np.cos(np.pi * share) + 1)
    return rates
