"""Steps have the same bits in all ways of the update: parameters, state, losses."""

import copy
import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dlcore as dl
from dlcore._native import dispatch
from dlcore.training import _loop as training
from dlcore.training import _progress as progress
from support.networks import DTYPES, F32, F64, LOSSES, network, quiet_fit, rows_of

SHAPES = pytest.mark.parametrize(
    "widths",
    # The third: more inputs than a part has, and more outputs than go into one product.
    [(5, 17, 33, 3), (20, 64, 64, 2), (130, 300, 40, 10), (37, 91, 11)],
    ids=str,
)
OPTIMIZERS = {
    "sgd": lambda p: dl.SGD(p, lr=0.05),
    "momentum": lambda p: dl.SGD(p, lr=0.02, momentum=0.9, dampening=0.2, weight_decay=0.01),
    "nesterov": lambda p: dl.SGD(p, lr=0.02, momentum=0.8, nesterov=True),
    "adam": lambda p: dl.Adam(p, lr=0.01),
    "adamw": lambda p: dl.AdamW(p, lr=0.01),
    "amsgrad": lambda p: dl.Adam(p, lr=0.01, amsgrad=True),
}
STEPPERS = pytest.mark.parametrize("name", OPTIMIZERS)


def trainer_of(model, name="adam", loss="cross_entropy", names=None, **options):
    own = model.named_parameters()
    optimizer = OPTIMIZERS[name]([own[n] for n in names or own])
    return dl.Trainer(model, loss=loss, optimizer=optimizer, seed=0, **options)


def labels_for(widths, rows, dtype, seed=0):
    return rows_of("labels", rows, dtype, inputs=widths[0], outputs=widths[-1], seed=seed)


def by_panels(trainer, x, y, epochs=1, *, batch_size=8, **options):
    assert len(x) / batch_size > 7  # at least 8 batches
    return quiet_fit(trainer, x, y, epochs, batch_size=batch_size, **options)


def flat(trainer, x, y, epochs=1, *, batch_size=8, **options):
    """An epoch of one batch does not pay for panels."""
    slices = [slice(i, i + batch_size) for i in range(0, len(x), batch_size)]
    return quiet_fit(trainer, [(x[s], y[s]) for s in slices], None, epochs, **options)


def above(names):
    """Return the names of parameters of a model behind one more layer."""
    return [re.sub(r"^\d+", lambda layer: str(int(layer[0]) + 1), name) for name in names]


def looked_over_trainer(model, *given, names=None, **options):
    """Return a trainer of a model behind a layer that changes nothing, but has no known bound.

    So that an update stays finite cannot be proved before it is made: it is made whole, or not at all.
    """
    identity = dl.BatchNorm1d(model.in_features, eps=2**-10)
    copied = dl.Sequential(identity, *copy.deepcopy(model.layers), dtype=model.dtype, seed=0)
    copied.flat[-model.flat.size :] = model.flat
    identity.running_var = np.full(model.in_features, 1 - 2**-10, model.dtype)
    for name in ["0", *above(model.frozen)]:
        copied.freeze(name)
    return trainer_of(copied, *given, names=above(names or model.named_parameters()), **options)


def arrays_of(trainer):
    state = trainer.optimizer.state_dict()["state"]
    values = trainer.model.named_parameters()
    own = [v.ravel() for name, v in values.items() if name not in trainer.model.frozen]
    return {"flat": np.concatenate(own)} | {
        f"{i}.{name}": np.asarray(value) for i, own in state.items() for name, value in own.items()
    }


def assert_same_bits(a, b, *, state=True):
    a, b = (arrays_of(t) if state else {"flat": t.model.flat} for t in (a, b))
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert value.dtype == b[name].dtype
        own, other = (np.atleast_1d(v).view(f"u{v.dtype.itemsize}") for v in (value, b[name]))
        np.testing.assert_array_equal(own, other, err_msg=name)


def check(make, x, y, epochs=1, *, loss="cross_entropy", name="adam", batch_size=8, **options):
    """Fit models from ``make`` both ways; return the trainer by panels."""
    trainers = [trainer_of(make(), name, loss, **options) for _ in range(2)]
    trainers.append(looked_over_trainer(make(), name, loss, **options))
    if "clip_grad_norm" not in options:  # a limit on the norm wants all gradients first
        trainers.append(trainer_of(make(), name, loss, clip_grad_norm=1e30, **options))
    ways = by_panels, flat, by_panels, by_panels
    losses = [
        fit(trainer, x, y, epochs, batch_size=batch_size)["loss"]
        for fit, trainer in zip(ways, trainers, strict=False)
    ]
    assert np.isfinite(losses[0]).all()
    np.testing.assert_allclose(losses[0], losses.pop(1), rtol=1e-14)  # summed in another order
    assert all(own == losses[0] for own in losses)
    for trainer in trainers[1:]:
        assert_same_bits(trainers[0], trainer)
    return trainers[0]


# ---- an epoch


@DTYPES
@pytest.mark.parametrize("batch_size", [1, 7, 32])
@SHAPES
def test_an_epoch_by_panels_is_the_flat_one(widths, batch_size, dtype, isa):
    x, y = labels_for(widths, 10 * batch_size - batch_size // 2, dtype)
    for i, name in enumerate(OPTIMIZERS):
        for bias in (True, False):
            between = dl.GELU() if (i + bias) % 2 else dl.ReLU()
            check(
                lambda between=between, bias=bias: network(
                    between, widths=widths, dtype=dtype, bias=bias
                ),
                x,
                y,
                name=name,
                batch_size=batch_size,
            )


@DTYPES
@STEPPERS
@SHAPES
def test_epochs_by_panels_are_flat_ones(widths, name, dtype):
    make = lambda: network(dl.ReLU(), widths=widths, dtype=dtype)
    check(make, *labels_for(widths, 90, dtype), 2, name=name)


@DTYPES
@pytest.mark.parametrize("loss", LOSSES)
def test_each_loss(loss, dtype):
    loss, kind = LOSSES[loss]
    x, y = rows_of(kind, 90, dtype, inputs=37)
    make = lambda: network(dl.ReLU(), dl.Tanh(), widths=(37, 70, 19, 3), dtype=dtype)
    check(make, x, y, loss=loss)


@DTYPES
@pytest.mark.parametrize("name", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("max_norm", [1e-3, 0.5])
def test_a_limit_on_the_norm(max_norm, name, dtype, isa):
    widths = 37, 91, 40, 3
    make = lambda: network(dl.ReLU(), widths=widths, dtype=dtype)
    check(make, *labels_for(widths, 90, dtype), 2, name=name, clip_grad_norm=max_norm)


NORMS = {"batch": dl.BatchNorm1d, "layer": dl.LayerNorm, "rms": dl.RMSNorm}


def normalized(norm, between=dl.ReLU, widths=(37, 91, 40, 3), dtype=F32, **options):
    layers = []
    for features, outputs in itertools.pairwise(widths[:-1]):
        layers += [dl.Linear(features, outputs), norm(outputs, **options), between()]
    return dl.Sequential(*layers, dl.Linear(*widths[-2:]), dtype=dtype, seed=0)


@DTYPES
@pytest.mark.parametrize("between", [dl.ReLU, dl.GELU])
@pytest.mark.parametrize("name", ["sgd", "adam"])
@pytest.mark.parametrize("norm", NORMS)
def test_normalizations(norm, name, between, dtype, isa):
    x, y = labels_for((37, 3), 90, dtype)
    check(lambda: normalized(NORMS[norm], between, dtype=dtype), x, y, 2, name=name)


def end_of(trainer, x, y):
    """Return how a fit ends, and its losses."""
    try:
        with np.errstate(all="ignore"):
            return "", by_panels(trainer, x, y, 2)["loss"]
    except FloatingPointError as error:
        return str(error), None


@pytest.mark.parametrize("size", [1e-30, 1e-12, 1e6, 1e14, 1e18, 1e20, 1e30, 3e38, np.inf, np.nan])
@pytest.mark.parametrize("eps", [1e-5, 1e-30])
@pytest.mark.parametrize("name", ["sgd", "adam"])
@pytest.mark.parametrize("norm", NORMS)
def test_normalized_inputs_of_any_size(norm, name, eps, size):
    """What is proved finite beforehand ends as what is looked over afterwards."""
    x, y = labels_for((37, 3), 90, F32)
    x[20:60] = (x[20:60] * np.float64(size)).clip(-3e38, 3e38)
    ends = []
    for make in (trainer_of, looked_over_trainer):
        trainer = make(normalized(NORMS[norm], eps=eps), name)
        ends.append((end_of(trainer, x, y), arrays_of(trainer)))
    assert ends[0][0] == ends[1][0]
    for key, value in ends[0][1].items():
        np.testing.assert_array_equal(value, ends[1][1][key], err_msg=key)


@DTYPES
def test_rows_that_weigh_nothing(dtype, isa):
    """A batch of them makes no update."""
    widths = 37, 91, 40, 3
    x, y = labels_for(widths, 96, dtype)
    weight = np.linspace(0.5, 2, 96)
    weight[24:32] = weight[40:58] = 0
    trainers = []
    for max_norm in (None, 1e30):
        model = network(dl.ReLU(), widths=widths, dtype=dtype)
        trainers.append(trainer_of(model, "momentum", clip_grad_norm=max_norm))
        by_panels(trainers[-1], x, y, 2, sample_weight=weight)
    assert trainers[0].history["loss"] == trainers[1].history["loss"]
    assert_same_bits(*trainers)


@DTYPES
def test_dropout(dtype):
    widths = 37, 91, 40, 3
    x, y = labels_for(widths, 100, dtype)
    trainers = []
    for max_norm in (None, 1e30):  # a batch of a stream has another key
        layers = dl.Linear(37, 91), dl.ReLU(), dl.Dropout(0.3), dl.Linear(91, 40), dl.Dropout(0.5)
        model = dl.Sequential(*layers, dl.GELU(), dl.Linear(40, 3), dtype=dtype, seed=0)
        trainers.append(trainer_of(model, clip_grad_norm=max_norm))
        by_panels(trainers[-1], x, y, 2, shuffle=True)
    assert trainers[0].history["loss"] == trainers[1].history["loss"]
    assert_same_bits(*trainers)


@DTYPES
@pytest.mark.parametrize("name", ["momentum", "amsgrad"])
def test_any_number_of_threads(name, dtype, isa):
    widths = 54, 256, 256, 7
    x, y = labels_for(widths, 2560, dtype)
    trainers = []
    for threads, fit in [(1, flat), *((n, by_panels) for n in (1, 2, 3, 4)), (3, flat)]:
        with dl.num_threads(threads):
            trainers.append(trainer_of(network(dl.ReLU(), widths=widths, dtype=dtype), name))
            fit(trainers[-1], x, y, batch_size=256)
        assert_same_bits(trainers[0], trainers[-1])


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_network(data):
    draw = data.draw
    widths = draw(st.lists(st.integers(1, 70), min_size=2, max_size=5))
    batch_size, batches = draw(st.integers(1, 20)), draw(st.integers(8, 20))
    rows = batches * batch_size - draw(st.integers(0, batch_size - 1))
    dtype, bias = draw(st.sampled_from([F32, F64])), draw(st.booleans())
    between = draw(st.sampled_from([dl.ReLU(), dl.GELU(), dl.LeakyReLU(0.1), dl.Sigmoid()]))
    x, y = labels_for(widths, rows, dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dispatch, "core", dispatch.load(draw(st.sampled_from(dl.available_isas()))))
        check(
            lambda: network(between, widths=widths, dtype=dtype, bias=bias),
            x,
            y,
            name=draw(st.sampled_from(list(OPTIMIZERS))),
            batch_size=batch_size,
        )


@STEPPERS
def test_an_element_has_no_neighbors(name, isa):
    """Zeros beside it in a register, such as those that fill a panel, change none of its bits."""
    rng = np.random.default_rng(0)
    values, steps = rng.normal(size=(1000, 16)), rng.normal(size=(5, 1000, 16))
    found = []
    for beside in (1, 0):
        p = values.astype(F32)
        optimizer = OPTIMIZERS[name]([p])
        for grad in steps.astype(F32):
            grad[:, 15] *= beside
            optimizer.step([grad])
        found.append(p[:, :15])
    np.testing.assert_array_equal(*found)


# ---- some parameters alone


@DTYPES
@pytest.mark.parametrize(
    "frozen",
    [["0"], ["2"], ["4"], ["0", "2"], ["2.weight"], ["0.bias", "2.bias"], ["0.weight", "4.bias"]],
    ids=str,
)
def test_frozen_parameters_stay(frozen, dtype, isa):
    def make():
        model = network(dl.ReLU(), widths=(37, 91, 40, 20), dtype=dtype)
        for name in frozen:
            model.freeze(name)
        return model

    trainer = check(make, *labels_for((37, 20), 90, dtype), 2, name="momentum")
    before = make().named_parameters()
    for name, value in trainer.model.named_parameters().items():
        assert np.array_equal(value, before[name]) == (name in trainer.model.frozen), name


@DTYPES
@pytest.mark.parametrize("names", [["2.weight"], ["4.weight", "0.bias", "0.weight"], ["2.bias"]])
def test_an_optimizer_of_some_parameters(names, dtype):
    make = lambda: network(dl.ReLU(), widths=(37, 91, 40, 20), dtype=dtype)
    check(make, *labels_for((37, 20), 90, dtype), 2, name="adamw", names=names)


# ---- steps that are not made


WIDE = 37, 91, 40, 3


@DTYPES
@STEPPERS
@pytest.mark.parametrize("batch", [0, 3, 9, 11])
@pytest.mark.parametrize("value", [np.inf, np.nan, "largest"])
def test_divergence_in_an_epoch(value, batch, name, dtype):
    x, y = labels_for(WIDE, 96, dtype)
    bad = x.copy()
    bad[8 * batch + 3, 2:30] = np.finfo(dtype).max if value == "largest" else value
    a, b = (trainer_of(network(dl.ReLU(), widths=WIDE, dtype=dtype), name) for _ in range(2))
    for trainer in (a, b):
        by_panels(trainer, x, y)
    with pytest.raises(FloatingPointError, match=rf"epoch 1, step {batch + 1}: the loss"):
        by_panels(a, bad, y)
    if batch:
        quiet_fit(b, x[: 8 * batch], y[: 8 * batch], batch_size=8)
    assert_same_bits(a, b)
    for trainer in (a, b):
        by_panels(trainer, x, y)
    assert_same_bits(a, b)


@pytest.mark.parametrize("batch", [3, 9])
def test_a_gradient_that_is_not_finite(batch, isa):
    x, y = np.ones((96, 1), F32), np.zeros((96, 40), F32)
    bad = x.copy()
    bad[8 * batch + 3] = np.inf  # times a slope of 0
    trainers = []
    for _ in range(2):
        model = dl.Sequential(dl.Linear(1, 40, bias=False), dl.ReLU(), seed=0)
        model.flat[:] = -np.linspace(1, 2, 40)
        trainers.append(trainer_of(model, "momentum", "mse"))  # whose decay alone is an update
    with pytest.raises(FloatingPointError, match=rf"step {batch + 1}: the gradient"):
        by_panels(trainers[0], bad, y)
    quiet_fit(trainers[1], x[: 8 * batch], y[: 8 * batch], batch_size=8)
    assert_same_bits(*trainers)


@pytest.mark.parametrize("batch", [3, 9])
def test_parameters_that_are_not_finite(batch, isa):
    x, y = labels_for((37, 40), 96, F32)
    x *= F32(1e-12)
    bad = x.copy()
    bad[8 * batch + 3] = 1e30
    trainers = []
    for _ in range(2):
        model = dl.Sequential(dl.Linear(37, 40, bias=False), seed=0)
        optimizer = dl.SGD(model.parameters(), lr=1e11)
        trainers.append(dl.Trainer(model, loss="cross_entropy", optimizer=optimizer, seed=0))
    with pytest.raises(FloatingPointError, match=rf"step {batch + 1}: the updated parameters"):
        by_panels(trainers[0], bad, y)
    quiet_fit(trainers[1], x[: 8 * batch], y[: 8 * batch], batch_size=8)
    assert_same_bits(*trainers)


@pytest.mark.parametrize("make", ["sgd", "adam"])
def test_steps_that_no_bound_covers(make, isa):
    """They are made the flat way, amid others by panels."""
    x, y = labels_for(WIDE, 120, F32)
    x[[27, 28, 60, 119], 3] = 1e33
    trainers = []
    for fit in (by_panels, flat):
        model = network(dl.ReLU(), widths=WIDE, dtype=F32)
        # SGD: of a length that the parameters survive.
        optimizer = {"sgd": lambda p: dl.SGD(p, lr=1e-34), "adam": OPTIMIZERS["adam"]}[make]
        optimizer = optimizer(model.parameters())
        trainers.append(dl.Trainer(model, loss="cross_entropy", optimizer=optimizer, seed=0))
        fit(trainers[-1], x, y)
    assert_same_bits(*trainers)


# ---- between steps


def interrupt_at(k, patch):
    """Make the k-th look at Python, which comes after k steps, that of a Ctrl-C."""
    looks = itertools.count(1)

    def step(*_):
        if next(looks) == k:
            raise KeyboardInterrupt

    patch.setattr(training, "_SLICE", 0.0)
    patch.setattr(progress.Progress, "step", step)
    patch.setattr(training, "go_on", step)  # where nobody looks


@DTYPES
@STEPPERS
@pytest.mark.parametrize("k", [1, 5, 11])
def test_an_interrupt_leaves_the_steps_before_it(k, name, dtype, monkeypatch, isa):
    x, y = labels_for(WIDE, 96, dtype)
    a, b = (trainer_of(network(dl.ReLU(), widths=WIDE, dtype=dtype), name) for _ in range(2))
    with monkeypatch.context() as patch:
        interrupt_at(k, patch)
        with pytest.raises(KeyboardInterrupt):
            by_panels(a, x, y)
    quiet_fit(b, x[: 8 * k], y[: 8 * k], batch_size=8)
    assert_same_bits(a, b)
    by_panels(a, x, y)
    flat(b, x, y)
    assert_same_bits(a, b)


class Change(dl.Callback):
    """What a caller may do between two epochs."""

    def on_epoch_end(self, epoch, _):
        trainer = self.trainer
        trainer.model.flat[::3] *= trainer.model.dtype.type(0.5)
        if epoch == 0:
            trainer.optimizer.load_state_dict(trainer.optimizer.state_dict())
        trainer.optimizer.lr *= 0.5
        for array in trainer.optimizer.state_arrays().get("exp_avg", []):
            array *= 2


@DTYPES
@STEPPERS
def test_changes_between_epochs_and_fits_are_seen(name, dtype):
    x, y = labels_for(WIDE, 96, dtype)
    trainers = []
    for fit in (by_panels, flat):
        model = network(dl.ReLU(), widths=WIDE, dtype=dtype)
        trainers.append(trainer_of(model, name))
        fit(trainers[-1], x, y, 4, callbacks=[Change()])
        model.flat[1::2] += 1
        fit(trainers[-1], x, y)
        model.load_state_dict(network(widths=WIDE, dtype=dtype, seed=1).state_dict())
        fit(trainers[-1], x, y)
    assert_same_bits(*trainers)
