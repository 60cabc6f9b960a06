"""Penalties, constraints and parameter groups in native fits, against their formulas in NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dlcore as dl
from support.own_optimizers import OwnAdam, OwnSGD
from support.plain_step import PlainNetwork, loss_and_slope

F32, F64 = np.float32, np.float64
DTYPES = pytest.mark.parametrize("dtype", [F32, F64], ids=["float32", "float64"])
# The first layer of the wide network is updated by panels.
WIDTHS = pytest.mark.parametrize("widths", [(6, 5, 3), (40, 91, 3)], ids=["narrow", "wide"])
NARROW = (6, 5, 3)


def rows(n=96, features=6, dtype=F64):
    rng = np.random.default_rng(1)
    return rng.normal(size=(n, features)).astype(dtype), rng.integers(0, 3, n)


def network(widths=NARROW, dtype=F64, max_norm=None):
    layers = dl.Linear(*widths[:2], max_norm=max_norm), dl.Tanh(), dl.Linear(*widths[1:])
    return dl.Sequential(*layers, dtype=dtype, seed=0)


def fit(optimizer, model, x, y, epochs=3, batch_size=8, loss="cross_entropy", **options):
    in_fit = {k: options.pop(k) for k in ("callbacks", "shuffle") if k in options}
    trainer = dl.Trainer(model, loss=loss, optimizer=optimizer, seed=0, **options)
    in_fit = {"shuffle": False, "verbose": 0} | in_fit
    return trainer.fit(x, y, epochs=epochs, batch_size=batch_size, **in_fit)


# ---- the same in plain NumPy


def soft(p, threshold):
    return np.sign(p) * np.maximum(np.abs(p) - threshold, 0)


def plain_sgd(lr, momentum=0.0, weight_decay=0.0, l1=0.0):
    velocity = {}

    def step(name, p, g):
        g = g + weight_decay * p
        v = velocity[name] = momentum * velocity[name] + g if name in velocity else g
        return soft(p - lr * v, lr * l1)

    return step


def plain_adam(lr, weight_decay=0.0, decoupled=0.0, l1=0.0):
    state = {}

    def step(name, p, g):
        m, v, t = state.get(name, (0.0, 0.0, 0))
        g = g + weight_decay * p
        m, v, t = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2, t + 1
        state[name] = m, v, t
        p = p * (1 - lr * decoupled)
        p = p - lr * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        return soft(p, lr * l1)

    return step


def short_rows(name, p, limits):
    """Scale the rows down whose norm is above that of their layer."""
    limit = limits.get(name)
    if limit is None:
        return p
    return p * np.minimum(1, limit / np.linalg.norm(p, axis=1, keepdims=True))


def replay(model, step, x, y, epochs=3, size=8, *, loss=None, clip=None, names=None):
    """Fit in float64 with ``step(name, parameter, gradient)``; return all parameters."""
    loss = loss or dl.CrossEntropyLoss()
    net = PlainNetwork(model, F64)
    limits = {f"{i}.weight": getattr(n, "max_norm", None) for i, n in enumerate(model)}
    for _ in range(epochs):
        for start in range(0, len(x), size):
            some = slice(start, start + size)
            values = net.forward(x[some])
            _, slope, _ = loss_and_slope(loss, values[-1], y[some], np.ones(len(y[some])))
            grads = net.backward(values, slope)
            for name in names or grads:
                g = grads[name] if clip is None else np.clip(grads[name], -clip, clip)
                p = step(name, net.parameters[name], g)
                net.parameters[name] = short_rows(name, p, limits)
    return np.concatenate([p.ravel() for p in net.parameters.values()])


def assert_near(a, b, dtype, scale=1.0):
    np.testing.assert_allclose(a, b, rtol=0, atol=scale * (1e-4 if dtype == F32 else 1e-11))


# ---- L1, L2, elastic net

PENALTIES = {
    "l1-sgd": (
        lambda p: dl.SGD(p, lr=0.1, l1=0.02),
        lambda: plain_sgd(0.1, l1=0.02),
    ),
    "l1-momentum": (
        lambda p: dl.SGD(p, lr=0.05, momentum=0.9, l1=0.1),
        lambda: plain_sgd(0.05, 0.9, l1=0.1),
    ),
    "l1-adam": (
        lambda p: dl.Adam(p, lr=0.01, l1=0.2),
        lambda: plain_adam(0.01, l1=0.2),
    ),
    "l1-own": (
        lambda p: OwnSGD(p, lr=0.1, l1=0.02),
        lambda: plain_sgd(0.1, l1=0.02),
    ),
    "l2-sgd": (
        lambda p: dl.SGD(p, lr=0.1, weight_decay=0.3),
        lambda: plain_sgd(0.1, weight_decay=0.3),
    ),
    "l2-adam": (
        lambda p: dl.Adam(p, lr=0.01, weight_decay=0.3),
        lambda: plain_adam(0.01, weight_decay=0.3),
    ),
    "l2-adamw": (
        lambda p: dl.AdamW(p, lr=0.01, weight_decay=0.3),
        lambda: plain_adam(0.01, decoupled=0.3),
    ),
    "net-sgd": (
        lambda p: dl.SGD(p, lr=0.1, weight_decay=0.1, l1=0.02),
        lambda: plain_sgd(0.1, weight_decay=0.1, l1=0.02),
    ),
    "net-adam": (
        lambda p: dl.Adam(p, lr=0.01, weight_decay=0.1, l1=0.2),
        lambda: plain_adam(0.01, weight_decay=0.1, l1=0.2),
    ),
    "net-adamw": (
        lambda p: dl.AdamW(p, lr=0.01, weight_decay=0.1, l1=0.2),
        lambda: plain_adam(0.01, decoupled=0.1, l1=0.2),
    ),
}


@DTYPES
@WIDTHS
@pytest.mark.parametrize("name", PENALTIES)
def test_fits_with_penalties_follow_their_formulas(name, widths, dtype):
    make, plain = PENALTIES[name]
    x, y = rows(features=widths[0], dtype=dtype)
    model = network(widths, dtype)
    expected = replay(model, plain(), x, y)
    fit(make(model.parameters()), model, x, y)
    assert_near(model.flat, expected, dtype, 100 if "adam" in name else 1)
    if "l2" not in name:
        assert 0 < np.count_nonzero(model.flat == 0) < model.flat.size
        if dtype == F64:
            np.testing.assert_array_equal(model.flat == 0, expected == 0)
    else:
        assert model.flat.all()


def line(make, w, x=1.0, y=0.0, epochs=1):
    """Fit y = w x with one row; return w after each epoch."""
    model = dl.Sequential(dl.Linear(1, 1, bias=False), dtype=F64)
    model.flat[:] = w
    optimizer = make(model.parameters())
    found = []
    for _ in range(epochs):
        fit(optimizer, model, np.array([[x]]), np.array([[y]]), 1, loss="mse")
        found.append(model.flat.item())
    return found


def test_l1_by_hand():
    # w <- w - lr 2 w = w / 2, then 0.125 less, and exactly 0 where less than that is left.
    make = lambda p: dl.SGD(p, lr=0.25, l1=0.5)
    assert line(make, 1.0, epochs=4) == [0.375, 0.0625, 0.0, 0.0]
    assert line(make, -1.0, epochs=4) == [-0.375, -0.0625, 0.0, 0.0]
    # A gradient that is strong enough brings it back: 2 (0 - 3) lr = -1.5, and 0.125 less.
    assert line(make, 0.0, y=3.0) == [1.375]
    # A subgradient step, w - lr (2 w + l1 sign(w)), would be the same until it crosses 0.
    assert line(make, 0.1) == [0.0]


def test_coupled_and_decoupled_decay_by_hand():
    """Where the data have no gradient (x = 0), the penalty is all that moves a weight."""
    still = {"x": 0.0, "epochs": 3}
    np.testing.assert_allclose(
        line(lambda p: dl.SGD(p, lr=0.1, weight_decay=0.5), 4.0, **still),
        4 * 0.95 ** np.arange(1, 4),
        rtol=1e-15,
    )
    np.testing.assert_allclose(
        line(lambda p: dl.AdamW(p, lr=0.1, weight_decay=0.5), 4.0, **still),
        4 * 0.95 ** np.arange(1, 4),
        rtol=1e-15,
    )
    # Adam divides the coupled penalty by its own size: about lr a step, whatever the decay.
    for decay in (0.5, 0.005):
        coupled = line(lambda p, d=decay: dl.Adam(p, lr=0.1, weight_decay=d), 4.0, **still)
        np.testing.assert_allclose(coupled, [3.9, 3.8, 3.7], atol=1e-3)
    twice = line(
        lambda p: dl.Adam(p, lr=0.1, weight_decay=0.5, decoupled_weight_decay=True), 4.0, **still
    )
    assert twice == line(lambda p: dl.AdamW(p, lr=0.1, weight_decay=0.5), 4.0, **still)


def regression():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 8))
    return x, x[:, :2] @ np.array([[2.0], [-1.0]]) + 0.1 * rng.normal(size=(60, 1)) + 3.0


def converged(*, l1=0.0, weight_decay=0.0, kind=dl.SGD):
    """Minimize by full batches; the bias has no penalty. Return the model and its gradient."""
    x, y = regression()
    model = dl.Sequential(dl.Linear(8, 1), dtype=F64, seed=0)
    groups = [
        {"params": model.parameters("0.weight"), "l1": l1, "weight_decay": weight_decay},
        {"params": model.parameters("0.bias")},
    ]
    fit(kind(groups, lr=0.1), model, x, y, 500, 60, loss="mse")
    error = model(x) - y
    assert error.mean() == pytest.approx(0, abs=1e-12)  # the bias is free
    return model[0].weight[0], 2 / 60 * (x.T @ error)[:, 0]


@pytest.mark.parametrize("kind", [dl.SGD, OwnSGD])
@pytest.mark.parametrize("weight_decay", [0.0, 0.3], ids=["lasso", "elastic net"])
def test_the_limit_of_proximal_steps_is_a_minimum_with_exact_zeros(weight_decay, kind):
    """The conditions of Karush, Kuhn and Tucker for loss + l1 |w| + weight_decay / 2 w^2."""
    l1 = 0.4
    w, gradient = converged(l1=l1, weight_decay=weight_decay, kind=kind)
    left = w != 0
    assert left.tolist() == [True, True] + 6 * [False]
    penalty = weight_decay * w + l1 * np.sign(w)
    np.testing.assert_allclose(gradient[left], -penalty[left], atol=1e-12)
    assert (np.abs(gradient[~left]) < l1).all()


def test_the_limit_of_l2_is_ridge_regression():
    w, _ = converged(weight_decay=0.3)
    x, y = regression()
    x, y = x - x.mean(0), y - y.mean()
    expected = np.linalg.solve(2 / 60 * x.T @ x + 0.3 * np.eye(8), 2 / 60 * x.T @ y)[:, 0]
    np.testing.assert_allclose(w, expected, rtol=1e-10)
    assert w.all()


def test_a_stronger_l1_leaves_fewer_weights():
    x, y = rows(features=40, dtype=F32)
    shares = []
    for l1 in (0.0, 0.003, 0.01, 0.03, 1.0):
        model = network((40, 91, 3), F32)
        fit(dl.Adam(model.parameters(), lr=0.01, l1=l1), model, x, y, 20)
        shares.append(model.sparsity())
    assert shares[0] == 0
    assert shares[-1] == 1
    assert shares == sorted(set(shares))


@WIDTHS
def test_penalties_of_0_change_no_bit(widths):
    x, y = rows(features=widths[0], dtype=F32)
    models = [network(widths, F32) for _ in range(2)]
    fit(dl.Adam(models[0].parameters(), lr=0.01), models[0], x, y)
    none = {"weight_decay": 0.0, "l1": 0.0}
    fit(dl.AdamW(models[1].parameters(), lr=0.01, **none), models[1], x, y)
    np.testing.assert_array_equal(models[0].flat, models[1].flat)


# ---- max-norm


def norms(layer):
    return np.linalg.norm(layer.weight.astype(F64), axis=1)


@DTYPES
@WIDTHS
@pytest.mark.parametrize("kind", [dl.SGD, OwnSGD])
def test_max_norm_follows_its_formula(kind, widths, dtype):
    x, y = rows(features=widths[0], dtype=dtype)
    model = network(widths, dtype, max_norm=0.6)
    # The first rows begin far below, the others above.
    model[0].weight[...] *= np.linspace(0.1, 3, widths[1], dtype=dtype)[:, None]
    expected = replay(model, plain_sgd(0.3, 0.5), x, y)
    fit(kind(model.parameters(), lr=0.3, momentum=0.5), model, x, y)
    assert_near(model.flat, expected, dtype)
    assert 0 < np.count_nonzero(norms(model[0]) > 0.6 * (1 - 1e-6)) < widths[1]


@DTYPES
@pytest.mark.parametrize("kind", [dl.SGD, OwnSGD])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"accumulate": 3},
        {"clip_grad_norm": 0.5},
        {"clip_grad_value": 0.1},
        {"accumulate": 2, "clip_grad_norm": 0.5},
    ],
    ids=str,
)
def test_no_norm_exceeds_its_limit_after_any_update(options, kind, dtype):
    x, y = rows(240, dtype=dtype)
    model = network(dtype=dtype, max_norm=0.5)
    optimizer = kind(model.parameters(), lr=1.0, momentum=0.5)
    size = 8 * options.get("accumulate", 1)
    largest = []
    for start in range(0, len(x), size):
        some = slice(start, start + size)
        fit(optimizer, model, x[some], y[some], 1, **options)
        largest.append(norms(model[0]).max())
    assert max(largest) <= 0.5 * (1 + 2 * np.finfo(dtype).eps)
    assert min(largest) > 0.4  # it has something to do
    assert norms(model[2]).max() > 0.5


@DTYPES
@pytest.mark.parametrize("kind", [dl.SGD, OwnSGD])
def test_only_rows_that_are_too_long_are_scaled(kind, dtype):
    x, y = rows(features=33, dtype=dtype)
    models = [network((33, 40, 3), dtype, max_norm) for max_norm in (None, 0.6)]
    for model in models:
        model[0].weight[3] = 0.0
        fit(kind(model.parameters(), lr=0.5), model, x, y, 1, 96)
    free, limited = models
    long = norms(free[0]) > 0.6
    assert 5 < np.count_nonzero(long) < 35
    assert limited[0].weight[~long].tobytes() == free[0].weight[~long].tobytes()
    expected = free[0].weight[long] * (0.6 / norms(free[0])[long])[:, None]
    np.testing.assert_allclose(limited[0].weight[long], expected, rtol=3 * np.finfo(dtype).eps)
    for name in ("0.bias", "2.weight", "2.bias"):
        own, other = (m.named_parameters()[name] for m in (limited, free))
        assert own.tobytes() == other.tobytes()


@pytest.mark.parametrize("kind", [dl.SGD, OwnSGD])
@pytest.mark.parametrize("way", ["frozen", "held by no optimizer"])
def test_weights_that_do_not_learn_keep_their_norm(way, kind):
    x, y = rows()
    model = network(max_norm=0.1)
    before = model[0].weight.tobytes()
    params = model.parameters()
    if way == "frozen":
        model.freeze("0.weight")
    else:
        params = model.parameters("0.bias", "2")
    fit(kind(params, lr=0.1), model, x, y)
    assert model[0].weight.tobytes() == before
    assert norms(model[0]).min() > 0.1


@pytest.mark.parametrize("kind", [dl.SGD, OwnSGD])
def test_a_row_of_zeros_has_a_norm_of_0(kind):
    x, y = rows(dtype=F32)
    model = network(dtype=F32, max_norm=1e-3)
    fit(kind(model.parameters(), lr=0.1, l1=100.0), model, x, y)
    assert not model.flat.any()


def test_a_norm_beyond_all_weights_changes_no_bit():
    x, y = rows(dtype=F32)
    models = [network(dtype=F32, max_norm=max_norm) for max_norm in (None, 1e30)]
    for model in models:
        fit(dl.Adam(model.parameters(), lr=0.01), model, x, y)
    np.testing.assert_array_equal(models[0].flat, models[1].flat)


@pytest.mark.parametrize("max_norm", [0, -1.0, np.inf, np.nan])
def test_a_norm_out_of_range(max_norm):
    with pytest.raises(ValueError, match="max_norm must be positive and finite"):
        dl.Linear(3, 2, max_norm=max_norm)
    assert repr(dl.Linear(3, 2, max_norm=1.5)) == "Linear(3, 2, max_norm=1.5)"


# ---- clipping by value


@DTYPES
@WIDTHS
@pytest.mark.parametrize("kind", [dl.SGD, OwnSGD])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_gradients_are_clipped_by_value(accumulate, kind, widths, dtype):
    x, y = rows(features=widths[0], dtype=dtype)
    model = network(widths, dtype)
    step = plain_sgd(0.3, 0.5, weight_decay=0.1, l1=0.01)
    expected = replay(model, step, x, y, size=8 * accumulate, clip=0.01)
    optimizer = kind(model.parameters(), lr=0.3, momentum=0.5, weight_decay=0.1, l1=0.01)
    fit(optimizer, model, x, y, accumulate=accumulate, clip_grad_value=0.01)
    assert_near(model.flat, expected, dtype)


@WIDTHS
@pytest.mark.parametrize("kind", [dl.SGD, OwnSGD])
def test_no_step_is_longer_than_the_limit(kind, widths):
    x, y = rows(features=widths[0])
    model = network(widths)
    before = model.flat.copy()
    fit(kind(model.parameters(), lr=0.5), model, 100 * x, y, 1, 96, clip_grad_value=0.25)
    steps = np.abs(model.flat - before)
    assert steps.max() == pytest.approx(0.125, rel=1e-12)
    assert (steps < 0.1).any()


@WIDTHS
def test_a_limit_beyond_all_gradients_changes_no_bit(widths):
    x, y = rows(features=widths[0], dtype=F32)
    models = [network(widths, F32) for _ in range(2)]
    for model, limit in zip(models, (None, 1e30), strict=True):
        optimizer = dl.Adam(model.parameters(), lr=0.01)
        fit(optimizer, model, x, y, clip_grad_value=limit)
    np.testing.assert_array_equal(models[0].flat, models[1].flat)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clip_grad_value": 0}, "clip_grad_value must be positive, not 0"),
        ({"clip_grad_value": -0.1}, "clip_grad_value must be positive, not -0.1"),
        ({"clip_grad_value": np.nan}, "clip_grad_value must be positive, not nan"),
        ({"clip_grad_norm": 0}, "clip_grad_norm must be positive, not 0"),
        ({"clip_grad_value": 1.0, "clip_grad_norm": 1.0}, "or clip_grad_value, not both"),
    ],
)
def test_limits_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        dl.Trainer(network(), loss="mse", **options)


# ---- label smoothing and dropout


@DTYPES
@WIDTHS
def test_smoothed_labels_are_mixed_with_all_classes(widths, dtype):
    x, y = rows(features=widths[0], dtype=dtype)
    smooth, mixed = network(widths, dtype), network(widths, dtype)
    loss = dl.CrossEntropyLoss(label_smoothing=0.3)
    a = fit(dl.SGD(smooth.parameters(), lr=0.1), smooth, x, y, loss=loss)
    shares = (0.7 * np.eye(3)[y] + 0.1).astype(dtype)
    b = fit(dl.SGD(mixed.parameters(), lr=0.1), mixed, x, shares)
    np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-5 if dtype == F32 else 1e-12)
    assert_near(smooth.flat, mixed.flat, dtype)


def test_smoothing_bounds_the_confidence():
    """With one class alone the best probability is 1 - 0.3 + 0.3 / 3; without smoothing it is 1."""
    x, y = np.zeros((4, 1)), np.zeros(4, np.int64)
    found = []
    for smoothing in (0.0, 0.3):
        model = dl.Sequential(dl.Linear(1, 3), dtype=F64, seed=0)
        loss = dl.CrossEntropyLoss(label_smoothing=smoothing)
        fit(dl.SGD(model.parameters(), lr=2.0), model, x, y, 300, loss=loss)
        found.append(dl.softmax(model(x))[0])
    np.testing.assert_allclose(found[1], [0.8, 0.1, 0.1], atol=1e-10)
    assert found[0][0] > 0.998


def dropped(p, dtype=F64):
    layers = dl.Linear(6, 30), dl.Tanh(), dl.Dropout(p), dl.Linear(30, 3)
    return dl.Sequential(*layers, dtype=dtype, seed=0)


def test_dropout_is_for_training_alone():
    x, y = rows()
    model = dropped(0.5)
    fit(dl.SGD(model.parameters(), lr=0.1), model, x, y)
    hidden = np.tanh(x @ model[0].weight.T + model[0].bias)
    expected = hidden @ model[3].weight.T + model[3].bias
    for _ in range(2):
        np.testing.assert_allclose(model(x), expected, rtol=1e-10, atol=1e-14)
    trainer = dl.Trainer(model, loss="cross_entropy")
    assert trainer.evaluate(x, y)["loss"] == pytest.approx(float(dl.cross_entropy(expected, y)))


def test_dropout_of_nothing_changes_no_bit_and_of_all_leaves_the_bias():
    x, y = rows()
    models = [dropped(p) for p in (0.0, 1.0)]
    before = models[1].state_dict()
    for model in models:
        fit(dl.SGD(model.parameters(), lr=0.1), model, x, y)
    plain = dl.Sequential(dl.Linear(6, 30), dl.Tanh(), dl.Linear(30, 3), dtype=F64, seed=0)
    fit(dl.SGD(plain.parameters(), lr=0.1), plain, x, y)
    np.testing.assert_array_equal(models[0].flat, plain.flat)
    changed = {n for n, v in models[1].state_dict().items() if not np.array_equal(v, before[n])}
    assert changed == {"3.bias"}


def test_what_is_dropped_is_drawn_by_the_seed():
    x, y = rows()
    ends = []
    for seed in (0, 0, 1):
        model = dropped(0.5)
        optimizer = dl.SGD(model.parameters(), lr=0.1)
        trainer = dl.Trainer(model, loss="cross_entropy", optimizer=optimizer, seed=seed)
        trainer.fit(x, y, epochs=2, shuffle=False, verbose=0)
        ends.append(model.flat)
    np.testing.assert_array_equal(ends[0], ends[1])
    assert not np.allclose(ends[0], ends[2], rtol=1e-3)


# ---- parameter groups

GROUPS = {
    "sgd": (dl.SGD, plain_sgd, {"lr": 0.05, "weight_decay": 0.2}, {"lr": 0.2, "l1": 0.01}),
    "momentum": (
        dl.SGD,
        plain_sgd,
        {"lr": 0.05, "momentum": 0.9, "l1": 0.02},
        {"lr": 0.02, "momentum": 0.5},
    ),
    "own": (OwnSGD, plain_sgd, {"lr": 0.05, "weight_decay": 0.2}, {"lr": 0.2, "l1": 0.01}),
    "adam": (dl.Adam, plain_adam, {"lr": 0.01, "l1": 0.1}, {"lr": 0.002, "weight_decay": 0.5}),
    "own adam": (OwnAdam, plain_adam, {"lr": 0.01, "l1": 0.1}, {"lr": 0.002, "weight_decay": 0.5}),
}
NAMES = ["0.weight", "2.weight"], ["2.bias", "0.bias"]


def in_groups(model, kind, *options):
    own = model.named_parameters()
    pairs = zip(NAMES, options, strict=True)
    return kind([{"params": [own[n] for n in names]} | group for names, group in pairs])


@DTYPES
@WIDTHS
@pytest.mark.parametrize("name", GROUPS)
def test_groups_have_options_of_their_own(name, widths, dtype):
    kind, plain, *options = GROUPS[name]
    x, y = rows(features=widths[0], dtype=dtype)
    model = network(widths, dtype)
    steps = {n: plain(**group) for names, group in zip(NAMES, options, strict=True) for n in names}
    expected = replay(model, lambda name, p, g: steps[name](name, p, g), x, y)
    fit(in_groups(model, kind, *options), model, x, y)
    assert_near(model.flat, expected, dtype, 100 if "adam" in name else 1)


@pytest.mark.parametrize("name", GROUPS)
def test_a_fit_of_groups_is_the_optimizer_step_by_step(name):
    """The gradients are those of SGD with lr 1."""
    kind, _, *options = GROUPS[name]
    x, y = rows()
    model, twin = network(), network()
    fit(in_groups(model, kind, *options), model, x, y)
    optimizer = in_groups(twin, kind, *options)
    own = twin.named_parameters()
    for start in [*range(0, 96, 8)] * 3:
        probe = network()
        probe.flat[:] = twin.flat
        some = slice(start, start + 8)
        fit(dl.SGD(probe.parameters(), lr=1.0), probe, x[some], y[some], 1)
        moved = probe.named_parameters()
        optimizer.step([own[n] - moved[n] for names in NAMES for n in names])
    np.testing.assert_allclose(model.flat, twin.flat, atol=1e-8)


def test_l1_on_the_weights_alone():
    x, y = rows(features=40, dtype=F32)
    model = network((40, 91, 3), F32)
    fit(in_groups(model, dl.Adam, {"lr": 0.01, "l1": 1.0}, {"lr": 0.01}), model, x, y)
    assert model.sparsity() == 1
    assert model[2].bias.all()


@DTYPES
@WIDTHS
@pytest.mark.parametrize("kind", [dl.SGD, dl.Adam])
def test_groups_of_the_same_options_are_one(kind, widths, dtype):
    x, y = rows(features=widths[0], dtype=dtype)
    models = [network(widths, dtype) for _ in range(2)]
    options = {"lr": 0.05, "weight_decay": 0.1, "l1": 1e-3}
    fit(in_groups(models[0], kind, options, options), models[0], x, y)
    fit(kind(models[1].parameters(), **options), models[1], x, y)
    np.testing.assert_array_equal(models[0].flat, models[1].flat)


def test_parameters_in_no_group_stay():
    x, y = rows()
    model = network()
    before = model.state_dict()
    params = [{"params": model[2].weight, "lr": 0.1}, {"params": model.parameters("0.bias")}]
    fit(dl.SGD(params, lr=0.2), model, x, y)
    changed = {n for n, v in model.state_dict().items() if not np.array_equal(v, before[n])}
    assert changed == {"2.weight", "0.bias"}


def test_the_options_of_the_optimizer_are_those_of_groups_without_their_own():
    model = network()
    groups = [{"params": model.parameters("0"), "lr": 1e-4}, {"params": model.parameters("2")}]
    optimizer = dl.Adam(groups, lr=1e-3, weight_decay=0.1)
    assert optimizer.lrs == [1e-4, 1e-3]
    assert optimizer.lr == 1e-4
    own = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
    assert [g["weight_decay"] for g in own] == [0.1, 0.1]
    assert optimizer.param_groups[1]["params"][0] is optimizer.params[2]
    assert groups[0].keys() == {"params", "lr"}  # what was given is as it was


def test_a_state_of_groups_has_the_layout_of_pytorch():
    x, y = rows()
    model = network()
    optimizer = in_groups(model, dl.Adam, {"lr": 0.01, "l1": 0.1}, {"lr": 0.02})
    fit(optimizer, model, x, y, 2)
    state = optimizer.state_dict()
    assert [g["params"] for g in state["param_groups"]] == [[0, 1], [2, 3]]
    assert [(g["lr"], g["l1"]) for g in state["param_groups"]] == [(0.01, 0.1), (0.02, 0.0)]
    shapes = {i: s["exp_avg"].shape for i, s in state["state"].items()}
    assert shapes == {0: (5, 6), 1: (3, 5), 2: (3,), 3: (5,)}
    assert {s["step"] for s in state["state"].values()} == {24}


@WIDTHS
@pytest.mark.parametrize("kind", [dl.SGD, dl.Adam])
def test_a_restored_state_of_groups_goes_on_with_the_same_bits(kind, widths):
    x, y = rows(features=widths[0], dtype=F32)
    more = {"momentum": 0.9} if kind is dl.SGD else {"amsgrad": True}
    options = {"lr": 0.03, "l1": 1e-3} | more, {"lr": 0.01, "weight_decay": 0.1} | more
    whole, model, restored = (network(widths, F32) for _ in range(3))
    fit(in_groups(whole, kind, *options), whole, x, y, 4)
    optimizer = in_groups(model, kind, *options)
    fit(optimizer, model, x, y, 2)
    other = in_groups(restored, kind, {"lr": 1.0} | more, {"lr": 1.0} | more)
    other.load_state_dict(optimizer.state_dict())
    restored.load_state_dict(model.state_dict())
    fit(other, restored, x, y, 2)
    np.testing.assert_array_equal(restored.flat, whole.flat)


def test_rates_of_groups():
    model = network()
    optimizer = in_groups(model, dl.SGD, {"lr": 0.1}, {"lr": 0.2})
    with pytest.raises(ValueError, match=r"rates of their own, \[0.1, 0.2\]; set_lrs"):
        optimizer.lr = 0.3
    for lrs, message in (
        ([0.1], "lrs must hold 2 numbers, got 1"),
        ([0.3, -1.0], "lr must be at least 0, got -1"),
    ):
        with pytest.raises(ValueError, match=message):
            optimizer.set_lrs(lrs)
    assert optimizer.lrs == [0.1, 0.2]
    optimizer.set_lrs([0.5, 0.5])
    optimizer.lr = 0.25
    assert optimizer.lrs == [0.25, 0.25]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda a, b: dl.SGD([{"params": a}, *b]), TypeError, "arrays or groups .*, not both"),
        (lambda a, _: dl.SGD([{"params": a}, {"lr": 0.1}]), ValueError, r"params\[1\] must hold"),
        (
            lambda a, b: dl.SGD([{"params": a}, {"params": b, "betas": (0, 0)}]),
            ValueError,
            r"params\[1\] must hold 'params' and options of lr, .*, got 'params', 'betas'",
        ),
        (
            lambda a, b: dl.SGD([{"params": a}, {"params": [b[0], a[1]]}]),
            ValueError,
            r"params\[1\] and params\[3\] share memory",
        ),
        (lambda a, b: dl.SGD([{"params": a}, {"params": b, "lr": -1}]), ValueError, "got -1"),
        (lambda a, _: dl.Adam([{"params": a, "l1": "1"}]), TypeError, "l1 must be a number"),
        (lambda *_: dl.SGD([{"params": []}]), ValueError, "params is empty"),
        (
            lambda a, b: dl.SGD(a).load_state_dict(
                dl.SGD([{"params": b}, {"params": a}]).state_dict()
            ),
            ValueError,
            r"groups of \[2\] parameters, got \[2, 2\]",
        ),
    ],
)
def test_groups_that_do_not_fit(make, error, message):
    model = network()
    with pytest.raises(error, match=message):
        make(model.parameters("0"), model.parameters("2"))


def test_gradients_of_groups_that_do_not_fit_change_nothing():
    model = network()
    optimizer = in_groups(model, dl.SGD, {"lr": 0.1, "momentum": 0.9}, {"lr": 1, "momentum": 0.9})
    before = model.flat.copy()
    good = [np.ones_like(p) for p in optimizer.params]
    for grads, error, message in (
        (good[:3], ValueError, "grads must hold one array for each parameter, 4, got 3"),
        (
            [*good[:3], np.ones(4)],
            ValueError,
            r"grads\[3\] must have the shape .* \(5,\), got \(4,\)",
        ),
        ([*good[:3], good[3].astype(F32)], TypeError, r"grads\[3\] must have the dtype of"),
        ([*good[:3], optimizer.params[3]], ValueError, r"grads\[3\] shares memory"),
    ):
        with pytest.raises(error, match=message):
            optimizer.step(grads)
    np.testing.assert_array_equal(model.flat, before)
    assert optimizer.state_dict()["state"] == {}


# ---- all together


def everything(dtype, widths=(40, 91, 24, 3)):
    return dl.Sequential(
        dl.Linear(*widths[:2], max_norm=0.55),
        dl.BatchNorm1d(widths[1]),
        dl.ReLU(),
        dl.Dropout(0.3),
        dl.Linear(*widths[1:3]),
        dl.LayerNorm(widths[2]),
        dl.GELU(),
        dl.Dropout(0.1),
        dl.Linear(*widths[2:]),
        dtype=dtype,
        seed=0,
    )


def fit_everything(dtype, threads, seed=0):
    x, y = rows(600, 40, dtype)
    y = x[:, :3].argmax(1)
    model = everything(dtype)
    own = model.named_parameters()
    thin, last = ["0.weight", "4.weight"], ["8.weight"]
    groups = [
        {"params": [own[n] for n in thin], "l1": 0.01},
        {"params": [own[n] for n in last], "lr": 0.005, "weight_decay": 0.1},
        {"params": [p for n, p in own.items() if n not in thin + last]},
    ]
    with dl.num_threads(threads):
        trainer = dl.Trainer(
            model,
            loss=dl.CrossEntropyLoss(label_smoothing=0.1),
            optimizer=dl.Adam(groups, lr=0.01),
            metrics=["accuracy"],
            schedule=dl.CosineAnnealingLR(4 * 17, per="iteration"),
            callbacks=[dl.ExponentialMovingAverage(0.9), dl.EarlyStopping(patience=3)],
            clip_grad_norm=1.0,
            accumulate=2,
            seed=seed,
        )
        history = trainer.fit(x, y, epochs=4, batch_size=16, validation_split=0.1, verbose=0)
    return history, model


@DTYPES
def test_everything_together_repeats_bit_for_bit(dtype):
    history, model = fit_everything(dtype, 1)
    assert all(np.isfinite(values).all() for values in history.values())
    assert np.isfinite(model.flat).all()
    assert history["loss"][-1] < history["loss"][0]
    assert history["val_accuracy"][-1] > 0.5
    assert norms(model[0]).max() <= 0.55 * (1 + 1e-6)
    for threads in (1, 2):
        again, twin = fit_everything(dtype, threads)
        assert again == history
        for name, value in twin.state_dict().items():
            np.testing.assert_array_equal(value, model.state_dict()[name])
    other, _ = fit_everything(dtype, 1, seed=1)
    assert other["loss"] != history["loss"]


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_options_are_the_same_in_a_step_of_ones_own(data):
    """Natively, and with an update that Python calls: the same fit up to rounding."""
    draw = data.draw
    widths = draw(st.sampled_from([NARROW, (40, 91, 3)]), "widths")
    is_adam = draw(st.booleans(), "adam")
    kinds = (dl.Adam, OwnAdam) if is_adam else (dl.SGD, OwnSGD)
    penalties = {
        "l1": draw(st.sampled_from([0.0, 0.01]), "l1"),
        "weight_decay": draw(st.sampled_from([0.0, 0.1]), "weight_decay"),
    }
    lr = {"lr": 0.01 if is_adam else 0.1}
    shared = {}
    if is_adam:
        shared["amsgrad"] = draw(st.booleans(), "amsgrad")
        shared["decoupled_weight_decay"] = draw(st.booleans(), "decoupled")
    else:
        shared["momentum"] = draw(st.sampled_from([0.0, 0.9]), "momentum")
    in_two = draw(st.booleans(), "groups")
    max_norm = draw(st.sampled_from([None, 0.5]), "max_norm")
    trainer = {"accumulate": draw(st.sampled_from([1, 2, 5]), "accumulate")}
    trainer |= draw(
        st.sampled_from([{}, {"clip_grad_norm": 0.2}, {"clip_grad_value": 0.01}]), "clip"
    )
    if draw(st.booleans(), "schedule"):
        trainer["schedule"] = dl.ExponentialLR(0.98, per="iteration")
    frozen = draw(st.sampled_from([[], ["0"], ["2.weight"], ["0.weight", "2.bias"]]), "frozen")
    decay = draw(st.sampled_from([None, 0.9]), "decay")
    x, y = rows(features=widths[0])
    ends = []
    for kind in (*kinds, kinds[0]):
        model = network(widths, max_norm=max_norm)
        for name in frozen:
            model.freeze(name)
        if in_two:
            optimizer = in_groups(model, kind, lr | shared | penalties, {"lr": 0.02} | shared)
        else:
            optimizer = kind(model.parameters(), **lr, **shared, **penalties)
        callbacks = [] if decay is None else [dl.ExponentialMovingAverage(decay)]
        fit(optimizer, model, x, y, 2, callbacks=callbacks, **trainer)
        ends.append(model.flat)
    np.testing.assert_array_equal(ends[0], ends[2])
    np.testing.assert_allclose(ends[0], ends[1], atol=1e-7)
