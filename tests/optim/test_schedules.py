"""Learning-rate schedules: their closed forms against recursions, and `ReduceLROnPlateau`.

The recursions are those of PyTorch's documentation: each rate is computed from the one before.
"""

import math
import pickle
import re
from types import SimpleNamespace

import numpy as np
import pytest

from dlcore.callbacks import ReduceLROnPlateau
from dlcore.optim import _schedules as schedules
from dlcore.optim._schedules import (
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CosLogLR,
    ExponentialLR,
    FlatCosineLR,
    LambdaLR,
    LinearLR,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    Schedule,
    SequentialLR,
    StepLR,
    Warmup,
)

LR = 0.3
STEPS = 200
NAN, INF = math.nan, math.inf


def chain(first, factor):
    """Rates from the first one on, each ``factor(t)`` times the one before."""
    rates = [first]
    for t in range(1, STEPS):
        rates.append(rates[-1] * factor(t))
    return rates


def linear_chain(start, end, total):
    def factor(t):
        if t > total:
            return 1
        return 1 + (end - start) / (total * start + (t - 1) * (end - start))

    return chain(LR * start, factor)


def polynomial_chain(total, power):
    def factor(t):
        return 1 if t > total else ((1 - t / total) / (1 - (t - 1) / total)) ** power

    return chain(LR, factor)


def cosine_chain(period, least):
    rates = [LR]
    for t in range(1, STEPS):
        if (t - 1 - period) % (2 * period) == 0:  # from the least rate up again
            rates.append(rates[-1] + (LR - least) * (1 - math.cos(math.pi / period)) / 2)
        else:
            ratio = (1 + math.cos(math.pi * t / period)) / (
                1 + math.cos(math.pi * (t - 1) / period)
            )
            rates.append(least + (rates[-1] - least) * ratio)
    return rates


def restarts(length, growth, least):
    rates, t = [], 0
    while len(rates) < STEPS:
        rates.append(least + (LR - least) * (1 + math.cos(math.pi * t / length)) / 2)
        t += 1
        if t == length:
            t, length = 0, length * growth
    return rates


def flat_cosine(total, flat):
    """Go down a squared cosine of half the angle."""
    rates = []
    for t in range(STEPS):
        done = min(t / total, 1)
        share = 0 if done <= flat else (done - flat) / (1 - flat)
        rates.append(LR * math.cos(math.pi / 2 * share) ** 2)
    return rates


def cycles_by_doubling(total, cycles):
    """Go through cycle after cycle, each twice as long, of which the logarithm makes a sine."""
    rates = []
    for t in range(STEPS):
        left, length = min(t / total, 1) * (2**cycles - 1), 1
        while left > length:
            left, length = left - length, 2 * length
        rates.append(LR * math.sin(math.pi * math.log2(1 + left / length)) ** 2)
    return rates


def inverse(step):
    return 1 / (1 + step)


def label(case):
    """Return an id without the address of a function."""
    return re.sub(" at 0x[0-9a-f]+", "", str(case))[:60]


CASES = [
    (ConstantLR(), [LR / 3] * 5 + [LR] * 195),
    (ConstantLR(0.5, total_iters=1), [0.15] + [LR] * 199),
    (StepLR(30), chain(LR, lambda t: 0.1 if t % 30 == 0 else 1)),
    (StepLR(1, gamma=0.9), chain(LR, lambda _: 0.9)),
    (MultiStepLR([80, 30]), chain(LR, lambda t: 0.1 if t in (30, 80) else 1)),
    (MultiStepLR((5, 5, 9), gamma=0.5), chain(LR, lambda t: {5: 0.25, 9: 0.5}.get(t, 1))),
    (MultiStepLR([]), [LR] * STEPS),
    (ExponentialLR(0.95), chain(LR, lambda _: 0.95)),
    (ExponentialLR(1.01), chain(LR, lambda _: 1.01)),
    (LinearLR(), linear_chain(1 / 3, 1, 5)),
    (LinearLR(1, 0.1, total_iters=150), linear_chain(1, 0.1, 150)),
    (LinearLR(0, 1, total_iters=2), [0, LR / 2] + [LR] * 198),
    (PolynomialLR(), polynomial_chain(5, 1)),
    (PolynomialLR(150, power=2), polynomial_chain(150, 2)),
    (PolynomialLR(300, power=0.5), polynomial_chain(300, 0.5)),
    (CosineAnnealingLR(50), cosine_chain(50, 0)),
    (CosineAnnealingLR(7, eta_min=0.01), cosine_chain(7, 0.01)),
    (CosineAnnealingLR(1), [LR, 0] * 100),
    (CosineAnnealingWarmRestarts(10), restarts(10, 1, 0)),
    (CosineAnnealingWarmRestarts(10, T_mult=2), restarts(10, 2, 0)),
    (CosineAnnealingWarmRestarts(1, 3, eta_min=0.01), restarts(1, 3, 0.01)),
    (FlatCosineLR(150), flat_cosine(150, 0.5)),
    (FlatCosineLR(90, flat=0), flat_cosine(90, 0)),
    (FlatCosineLR(90, flat=0.9), flat_cosine(90, 0.9)),
    (FlatCosineLR(90, flat=1), [LR] * STEPS),
    (CosLogLR(150), cycles_by_doubling(150, 4)),
    (CosLogLR(199, cycles=1), cycles_by_doubling(199, 1)),
    (CosLogLR(300, cycles=3), cycles_by_doubling(300, 3)),
    (LambdaLR(inverse), [LR / (1 + t) for t in range(STEPS)]),
    (Warmup(steps=10), [*linear_chain(0.01, 1, 10)[:10], *[LR] * 190]),
    (
        Warmup(CosineAnnealingLR(90, 0.01), steps=20, start_factor=0.25),
        [*linear_chain(0.25, 1, 20)[:20], *cosine_chain(90, 0.01)[:180]],
    ),
    (
        SequentialLR([ConstantLR(0.1, 20), StepLR(3), ExponentialLR(0.9)], [20, 27]),
        [LR / 10] * 20
        + [LR] * 3
        + [LR / 10] * 3
        + [LR / 100]
        + chain(LR, lambda _: 0.9)[: STEPS - 27],
    ),
]


@pytest.mark.parametrize(("schedule", "expected"), CASES, ids=label)
def test_the_closed_form_is_the_recursion(schedule, expected):
    rates = schedule.values(0, STEPS, LR)
    assert (rates.dtype, rates.shape) == (np.float64, (STEPS,))
    np.testing.assert_allclose(rates, expected, rtol=1e-12, atol=1e-17)


def test_known_rates():
    assert [StepLR(2)(t, 1.0) for t in (0, 1, 2, 3, 4)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    # cos(pi / 3) = 1/2
    assert CosineAnnealingLR(3, eta_min=0.2)(1, 1.0) == pytest.approx(0.2 + 0.8 * 0.75)
    assert CosineAnnealingLR(3, eta_min=0.2)(3, 1.0) == 0.2
    assert CosineAnnealingWarmRestarts(4, 2).values(0, 13, 1.0)[[0, 2, 4, 8, 12]] == pytest.approx(
        [1, 0.5, 1, 0.5, 1]
    )
    # The cycles of 1, 2, 4 and 8 fifteenths end where the rate is 0, and have lr where their
    # logarithm is a half.
    assert CosLogLR(15).values(0, 17, 1.0)[[0, 1, 3, 7, 15, 16]] == pytest.approx(0, abs=1e-30)
    assert CosLogLR(10**9)(round(1e9 * (math.sqrt(2) - 1) / 15), 0.04) == pytest.approx(0.04)
    assert FlatCosineLR(8).values(0, 10, 0.02) == pytest.approx(
        [0.02] * 5 + [0.02 * (2 + math.sqrt(2)) / 4, 0.01, 0.02 * (2 - math.sqrt(2)) / 4, 0, 0]
    )
    assert PolynomialLR(4, power=2).values(0, 6, 1.6) == pytest.approx([1.6, 0.9, 0.4, 0.1, 0, 0])


# ---- 1cycle


def one_cycle(length, corners, ends, anneal):
    """Walk through the phases: ``corners`` are the rates at their bounds, ``ends`` the steps."""
    rates = []
    for step in range(length):
        phase = next(i for i, end in enumerate(ends) if step <= end)
        start = 0 if phase == 0 else ends[phase - 1]
        share = (step - start) / (ends[phase] - start)
        rates.append(anneal(corners[phase], corners[phase + 1], share))
    return rates


def line(a, b, share):
    return a + (b - a) * share


def cosine(a, b, share):
    return b + (a - b) * (1 + math.cos(math.pi * share)) / 2


@pytest.mark.parametrize(("strategy", "anneal"), [("cos", cosine), ("linear", line)])
@pytest.mark.parametrize(("length", "share"), [(200, 0.3), (11, 0.25), (200, 0.0), (7, 1.0)])
def test_one_cycle_of_two_phases(strategy, anneal, length, share):
    schedule = OneCycleLR(0.5, total_steps=length, pct_start=share, anneal_strategy=strategy)
    corners = [0.02, 0.5, 0.02 / 1e4]
    expected = one_cycle(length, corners, [share * length - 1, length - 1], anneal)
    np.testing.assert_allclose(schedule.values(0, length, LR), expected, rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize(("strategy", "anneal"), [("cos", cosine), ("linear", line)])
@pytest.mark.parametrize(("length", "share"), [(200, 0.3), (200, 0.45), (11, 0.25)])
def test_one_cycle_of_three_phases(strategy, anneal, length, share):
    schedule = OneCycleLR(
        total_steps=length,
        pct_start=share,
        anneal_strategy=strategy,
        div_factor=10,
        final_div_factor=100,
        three_phase=True,
    )
    corners = [LR / 10, LR, LR / 10, LR / 1000]
    ends = [share * length - 1, 2 * (share * length - 1), length - 1]
    expected = one_cycle(length, corners, ends, anneal)
    np.testing.assert_allclose(schedule.values(0, length, LR), expected, rtol=1e-12, atol=1e-16)


def test_the_optimizers_rate_is_the_greatest_of_one_cycle():
    assert OneCycleLR(total_steps=41, pct_start=21 / 41).values(0, 41, LR)[[0, 20, 40]] == (
        pytest.approx([LR / 25, LR, LR / 25e4], rel=1e-12)
    )
    given = OneCycleLR(LR, total_steps=41)
    assert (given.values(0, 41, 7.0) == OneCycleLR(total_steps=41).values(0, 41, LR)).all()


def test_a_phase_of_one_step_is_at_its_end():
    rates = OneCycleLR(1.0, total_steps=10, pct_start=0.1).values(0, 10, LR)
    assert rates[0] == 1
    assert (np.diff(rates) < 0).all()


def test_one_cycle_ends():
    schedule = OneCycleLR(total_steps=10)
    assert schedule(9, LR) == pytest.approx(LR / 25e4)
    with pytest.raises(ValueError, match="step 10 is beyond the cycle, whose 10 steps"):
        schedule(10, LR)
    with pytest.raises(ValueError, match="step 10 is beyond"):
        schedule.values(8, 3, LR)


# ---- what all have in common

ALL = [
    *(case[0] for case in CASES),
    OneCycleLR(total_steps=STEPS),
    OneCycleLR(0.1, total_steps=STEPS, three_phase=True, per="iteration"),
    Warmup(StepLR(3, per="iteration"), steps=2, per="iteration"),
]
every = pytest.mark.parametrize("schedule", ALL, ids=label)


@every
def test_a_step_does_not_depend_on_those_before(schedule):
    rates = schedule.values(0, STEPS, LR)
    assert [schedule(t, LR) for t in range(STEPS)] == rates.tolist()
    assert schedule.values(37, 101, LR).tolist() == rates[37:138].tolist()
    assert schedule.values(5, 0, LR).shape == (0,)
    assert type(schedule(np.int64(3), np.float32(LR))) is float


@every
def test_schedules_are_values(schedule):
    copy = pickle.loads(pickle.dumps(schedule))
    assert copy == schedule
    assert hash(copy) == hash(schedule)
    if not isinstance(schedule, LambdaLR):  # functions have no such repr
        assert eval(repr(schedule), vars(schedules)) == schedule
    assert sum(schedule == other for other in ALL) == 1
    with pytest.raises(AttributeError):
        schedule.per = "iteration"


def test_per():
    assert StepLR(3).per == "epoch"
    assert StepLR(3, per="iteration").per == "iteration"
    assert StepLR(3, per="iteration") != StepLR(3)
    assert repr(StepLR(3, per="iteration")) == "StepLR(step_size=3, gamma=0.1, per='iteration')"


def test_a_schedule_of_ones_own():
    class Halves(Schedule):
        def rates(self, steps, lr):
            return lr * 0.5**steps

    schedule = Halves(per="iteration")
    assert schedule.per == "iteration"
    assert schedule.values(1, 3, 8.0).tolist() == [4, 2, 1]
    assert Warmup(Halves(), steps=1, start_factor=0.25).values(0, 3, 8.0).tolist() == [2, 8, 4]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StepLR(3, per="batch"), "StepLR: per must be 'epoch' or 'iteration', not 'batch'"),
        (lambda: ConstantLR(1.5), r"ConstantLR: factor must be a number in \[0, 1\], not 1.5"),
        (lambda: ConstantLR(total_iters=0), "total_iters must be an integer and at least 1, not 0"),
        (lambda: StepLR(2.5), "StepLR: step_size must be an integer and at least 1, not 2.5"),
        (lambda: StepLR(True), "step_size must be an integer"),
        (lambda: CosLogLR(0), "CosLogLR: total_iters must be an integer and at least 1, not 0"),
        (lambda: CosLogLR(9, cycles=51), "CosLogLR: cycles must be at most 50, not 51"),
        (
            lambda: FlatCosineLR(9, flat=1.1),
            r"FlatCosineLR: flat must be a number in \[0, 1\], not 1.1",
        ),
        (lambda: StepLR(3, gamma=0), r"gamma must be a number in \(0, inf\), not 0"),
        (lambda: MultiStepLR([3, 0]), "each of milestones must be an integer and at least 1"),
        (lambda: MultiStepLR(30), "milestones must be a sequence of integers, not 30"),
        (lambda: MultiStepLR([3], gamma=-1), "MultiStepLR: gamma"),
        (lambda: ExponentialLR(NAN), "ExponentialLR: gamma"),
        (lambda: ExponentialLR("0.9"), "gamma must be a number in .*, not '0.9'"),
        (lambda: ExponentialLR(INF), r"gamma must be a number in \(0, inf\), not inf"),
        (lambda: LinearLR(start_factor=-0.1), "LinearLR: start_factor"),
        (lambda: LinearLR(end_factor=2), "LinearLR: end_factor"),
        (lambda: LinearLR(total_iters=0), "LinearLR: total_iters"),
        (lambda: PolynomialLR(0), "PolynomialLR: total_iters"),
        (lambda: PolynomialLR(power=-1), "PolynomialLR: power"),
        (lambda: CosineAnnealingLR(0), "CosineAnnealingLR: T_max"),
        (lambda: CosineAnnealingLR(5, eta_min=-1), "CosineAnnealingLR: eta_min"),
        (lambda: CosineAnnealingWarmRestarts(0), "CosineAnnealingWarmRestarts: T_0"),
        (lambda: CosineAnnealingWarmRestarts(5, 0), "CosineAnnealingWarmRestarts: T_mult"),
        (lambda: CosineAnnealingWarmRestarts(5, eta_min=-1), "WarmRestarts: eta_min"),
        (lambda: OneCycleLR(0, total_steps=5), "OneCycleLR: max_lr"),
        (lambda: OneCycleLR(total_steps=0), "OneCycleLR: total_steps"),
        (lambda: OneCycleLR(total_steps=5, pct_start=30), "OneCycleLR: pct_start"),
        (lambda: OneCycleLR(total_steps=5, anneal_strategy="exp"), "anneal_strategy .* not 'exp'"),
        (lambda: OneCycleLR(total_steps=5, div_factor=0), "OneCycleLR: div_factor"),
        (lambda: OneCycleLR(total_steps=5, final_div_factor=0), "OneCycleLR: final_div_factor"),
        (lambda: Warmup(steps=0), "Warmup: steps"),
        (lambda: Warmup(steps=5, start_factor=2), "Warmup: start_factor"),
        (lambda: Warmup(StepLR(3), steps=5, per="iteration"), "per is 'iteration', .* is 'epoch'"),
        (lambda: SequentialLR([StepLR(3, per="iteration")], []), "per is 'epoch', .* 'iteration'"),
        (lambda: SequentialLR([StepLR(3)], [5]), "one less than schedules, .* 1 and 1"),
        (lambda: SequentialLR([StepLR(3)] * 3, [5, 5]), r"milestones must ascend, not \(5, 5\)"),
        (lambda: StepLR(3)(-1, LR), "step must be an integer and at least 0, not -1"),
        (lambda: StepLR(3).values(0, -1, LR), "count must be an integer and at least 0, not -1"),
        (lambda: StepLR(3)(0, -LR), "lr must be a number"),
        (lambda: StepLR(3)(0, NAN), "lr must be a number"),
        (
            lambda: ExponentialLR(10).values(300, 10, LR),
            "gives inf at step 309; learning rates are",
        ),
        (lambda: LambdaLR(lambda t: 2 - t).values(1, 5, 1), "gives -1.0 at step 3; learning rates"),
        (lambda: LambdaLR(lambda _: NAN)(0, 1.0), "gives nan at step 0; learning rates"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LambdaLR(0.5), "LambdaLR: function must be callable, not 0.5"),
        (lambda: Warmup(0.5, steps=3), "Warmup: 0.5 is not a Schedule"),
        (lambda: SequentialLR(StepLR(3), []), "schedules must be a sequence, not StepLR"),
        (lambda: SequentialLR([ReduceLROnPlateau()], []), "ReduceLROnPlateau.* is not a Schedule"),
    ],
)
def test_arguments_of_another_type_are_named(make, message):
    with pytest.raises(TypeError, match=message):
        make()


# ---- ReduceLROnPlateau


class Optimizer:
    def __init__(self, *lrs):
        self.lrs = list(lrs)

    @property
    def lr(self):
        return self.lrs[0]

    def set_lrs(self, lrs):
        assert lrs != self.lrs, "set only to change something"
        self.lrs = list(lrs)


def attach(plateau, *lrs, names=("loss", "val_loss")):
    plateau.trainer = SimpleNamespace(
        optimizer=Optimizer(*lrs), log_names=list(names), active_callbacks=[plateau]
    )
    plateau.on_fit_begin()
    return plateau


def run(values, monitor="val_loss", **options):
    """Let the callback see these values; return the epochs of its reductions."""
    plateau = attach(ReduceLROnPlateau(monitor, **options), 1.0, names=[monitor])
    for epoch, value in enumerate(values):
        before = list(plateau.trainer.optimizer.lrs)
        plateau.on_epoch_end(epoch, {monitor: value})
        changed = plateau.trainer.optimizer.lrs != before
        assert changed == (epoch in plateau.reductions)
    return plateau.reductions


def test_reduces_after_more_than_patience_epochs_without_improvement():
    assert run([5, 4, 4, 4, 4, 4, 4, 4], patience=2) == [4, 7]
    assert run([5, 4, 4, 4, 3, 3, 3, 3], patience=2) == [7]
    assert run([5, 4, 4, 3, 3], patience=0) == [2, 4]
    assert run([1] * 23) == [11, 22]  # the first value is the best, 11 more are too many


def test_every_group_is_multiplied():
    plateau = attach(ReduceLROnPlateau(patience=0, factor=0.5), 1.0, 0.25)
    for epoch in range(3):
        plateau.on_epoch_end(epoch, {"val_loss": 1.0})
    assert plateau.trainer.optimizer.lrs == [0.25, 0.0625]


def test_an_optimizer_of_ones_own_needs_an_lr_alone():
    plateau = attach(ReduceLROnPlateau(patience=0))
    plateau.trainer.optimizer = SimpleNamespace(lr=1.0)
    for epoch in range(2):
        plateau.on_epoch_end(epoch, {"val_loss": 1.0})
    assert plateau.trainer.optimizer.lr == 0.1


def test_no_rate_is_reduced_below_the_least():
    plateau = attach(ReduceLROnPlateau(patience=0, min_lr=0.05), 1.0, 0.07, 0.01)
    history = []
    for epoch in range(5):
        plateau.on_epoch_end(epoch, {"val_loss": 1.0})
        history.append(plateau.trainer.optimizer.lrs)
    assert history[0] == [1.0, 0.07, 0.01]
    assert history[1] == [0.1, 0.05, 0.01]
    assert history[2] == history[4] == [0.05, 0.05, 0.01]
    assert plateau.reductions == [1, 2]


def test_reductions_by_no_more_than_eps_are_left_out():
    assert run([1, 1, 1, 1], patience=0, factor=0.5, eps=0.2) == [1, 2]  # 1, 0.5, 0.25, 0.25


@pytest.mark.parametrize(
    ("options", "better", "not_better"),
    [
        ({"threshold": 0.1}, 8.9, 9.1),
        ({"threshold": 0.1, "mode": "max"}, 11.1, 10.9),
        ({"threshold": 0.1, "threshold_mode": "abs"}, 9.8, 9.95),
        ({"threshold": 0.1, "threshold_mode": "abs", "mode": "max"}, 10.2, 10.05),
        ({"threshold": 0}, 9.99, 10),
        ({}, 9.998, 9.9995),
    ],
)
def test_the_threshold_is_what_an_improvement_must_exceed(options, better, not_better):
    assert run([10, better], patience=0, **options) == []
    assert run([10, not_better], patience=0, **options) == [1]


def test_the_best_value_is_kept():
    plateau = attach(ReduceLROnPlateau(), 1.0)
    assert plateau.best == INF
    for epoch, value in enumerate([5, 3, 4]):
        plateau.on_epoch_end(epoch, {"val_loss": value, "loss": 0.0})
    assert plateau.best == 3
    assert attach(ReduceLROnPlateau("r2", mode="max"), 1.0, names=["r2"]).best == -INF


def test_epochs_of_the_cooldown_do_not_count():
    assert run([1] * 9, patience=0) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert run([1] * 9, patience=0, cooldown=2) == [1, 4, 7]
    assert run([1] * 9, patience=1, cooldown=2) == [2, 6]
    assert run([9, 9, 8, 8, 8], patience=0, cooldown=1) == [
        1,
        3,
    ]  # better in the cooldown: 8 counts


def test_auto_mode_tells_by_the_name():
    assert run([1, 2, 3], "val_accuracy", patience=0) == []
    assert run([1, 2, 3], "val_error", patience=0) == [1, 2]
    with pytest.raises(ValueError, match=r"ReduceLROnPlateau: mode='auto' cannot .* 'margin'"):
        ReduceLROnPlateau("margin")


def test_values_that_are_not_a_number_are_no_improvement():
    assert run([NAN, NAN, 3, NAN, INF, 2], patience=1) == [1, 4]


def test_a_second_fit_starts_anew_with_the_rates_of_the_first():
    plateau = attach(ReduceLROnPlateau(patience=1, cooldown=3), 1.0)
    for epoch in range(3):
        plateau.on_epoch_end(epoch, {"val_loss": 1.0})
    assert plateau.reductions == [2]
    plateau.on_fit_begin()
    assert (plateau.reductions, plateau.best) == ([], INF)
    assert plateau.trainer.optimizer.lrs == [0.1]
    for epoch in range(3):
        plateau.on_epoch_end(epoch, {"val_loss": 2.0})
    assert plateau.reductions == [2]
    assert plateau.trainer.optimizer.lrs == pytest.approx([0.01])


def test_a_value_that_is_not_logged_is_named():
    with pytest.raises(
        ValueError, match=r"ReduceLROnPlateau monitors 'val_loss', .* only loss; .*validation_split"
    ):
        attach(ReduceLROnPlateau(), 1.0, names=["loss"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "least"}, "mode must be 'auto', 'min' or 'max', not 'least'"),
        ({"factor": 1.0}, r"factor must be a number in \(0, 1\), not 1.0"),
        ({"factor": 0}, "factor"),
        ({"patience": -1}, "patience must be an integer and at least 0, not -1"),
        ({"threshold": -1e-4}, "threshold"),
        ({"threshold": 1.0}, r"threshold must be a number in \[0, 1\), not 1.0"),
        ({"threshold_mode": "relative"}, "threshold_mode must be 'rel' or 'abs', not 'relative'"),
        ({"cooldown": 0.5}, "cooldown must be an integer"),
        ({"min_lr": -1.0}, "min_lr"),
        ({"eps": NAN}, "eps"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=f"ReduceLROnPlateau: {message}"):
        ReduceLROnPlateau(**options)
