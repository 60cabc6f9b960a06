"""`lr_find`: what it tries, where it ends, what it suggests."""

import sys

import numpy as np
import pytest

import dlcore as dl

F32, F64 = np.float32, np.float64


def line(n=200, noise=0.1, seed=0, dtype=F64):
    """Columns of different sizes and a linear function of them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4)) * [1, 0.5, 2, 1]
    y = x @ [[1.0], [-2.0], [0.5], [1.0]] + noise * rng.normal(size=(n, 1))
    return x.astype(dtype), y.astype(dtype)


def linear(dtype=F64, seed=0):
    return dl.Sequential(dl.Linear(4, 1, bias=False), dtype=dtype, seed=seed)


def blobs(n=600, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    return (rng.normal(size=(n, 8)) + 2 * rng.normal(size=(3, 8))[y]).astype(F32), y


def network(seed=0):
    layers = dl.Linear(8, 32), dl.BatchNorm1d(32), dl.ReLU(), dl.Dropout(0.1), dl.Linear(32, 3)
    return dl.Sequential(*layers, seed=seed)


def test_the_losses_are_those_of_steps_with_rising_rates():
    """Gradient descent on a quadratic function in NumPy, and the smoothing by its definition."""
    x, y = line()
    model = linear()
    found = dl.lr_find(model, x, y, loss="mse", optimizer="sgd", start=1e-4, batch_size=200)
    w, losses = model[0].weight[0].copy(), []
    lrs = 1e-4 * 1e5 ** (np.arange(100) / 99)
    for lr in lrs:
        error = x @ w - y[:, 0]
        losses.append(np.mean(error**2))
        w -= lr * 2 / 200 * error @ x
    count = len(found.lr)
    np.testing.assert_allclose(found.lr, lrs[:count], rtol=1e-12)
    past = 0.9 ** np.arange(count)
    smooth = [past[: t + 1][::-1] @ losses[: t + 1] / past[: t + 1].sum() for t in range(count)]
    np.testing.assert_allclose(found.loss, smooth, rtol=1e-8)
    # It ends just before the loss is four times as large as it was.
    following = 0.9 ** np.arange(count + 1)[::-1] @ losses[: count + 1]
    following /= (0.9 ** np.arange(count + 1)).sum()
    assert smooth[-1] <= 4 * min(smooth) < following
    # The steepest line through a seventh of the losses, by least squares.
    slopes = [np.polyfit(np.arange(14), losses[i : i + 14], 1)[0] for i in range(count - 13)]
    assert found.suggestion == found.lr[np.argmin(slopes) + 7]


@pytest.mark.parametrize(("batch_size", "least"), [(8, 0.004), (32, 0.04), (200, 0.08)])
def test_the_suggestion_suits_a_convex_problem(batch_size, least):
    """Gradient descent diverges beyond 2 / the largest eigenvalue of the second derivative."""
    x, y = line()
    largest = np.linalg.eigvalsh(2 / 200 * x.T @ x)[-1]
    for seed in range(5):
        found = dl.lr_find(
            linear(seed=seed),
            x,
            y,
            loss="mse",
            optimizer="sgd",
            batch_size=batch_size,
            seed=seed,
        )
        assert least / largest < found.suggestion < 0.8 / largest


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_a_fit_with_the_suggestion_learns(optimizer):
    x, y = blobs()
    kinds = {"sgd": dl.SGD, "adam": dl.Adam, "adamw": dl.AdamW}
    for seed in range(3):
        model = network(seed)
        found = dl.lr_find(model, x, y, loss="cross_entropy", optimizer=optimizer, seed=seed)
        last = {}
        for name, lr in (("suggestion", found.suggestion), ("small", found.suggestion / 300)):
            model = network(seed)
            trainer = dl.Trainer(
                model,
                loss="cross_entropy",
                optimizer=kinds[optimizer](model.parameters(), lr=lr),
                seed=0,
            )
            trainer.fit(x, y, epochs=2, verbose=0)
            last[name] = trainer.evaluate(x, y)["loss"]
        assert last["suggestion"] < min(0.3, 0.5 * last["small"])


def test_batches_that_are_easy_by_chance_are_no_reason_for_a_rate():
    """A rate so small that it learns nothing is not suggested, however the first losses fall."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 4))
    y = x[:, :1] + rng.normal(size=(400, 1))
    suggestions = [
        dl.lr_find(
            linear(seed=seed), x, y, loss="mse", optimizer="adam", batch_size=16, seed=seed
        ).suggestion
        for seed in range(20)
    ]
    assert min(suggestions) > 5e-4


def test_the_model_and_the_data_stay_as_they_are():
    x, y = blobs()
    model = network()
    model.freeze("4.bias")
    before = {name: value.tobytes() for name, value in model.state_dict().items()}
    x.flags.writeable = y.flags.writeable = False
    dl.lr_find(model, x, y, loss="cross_entropy")
    assert {name: value.tobytes() for name, value in model.state_dict().items()} == before
    assert model.frozen == {"4.bias"}
    assert model[1].num_batches_tracked == 0


@pytest.mark.parametrize("dropout", [False, True])
def test_the_seed_gives_the_same_result(dropout):
    """It draws the order of the rows and, where they are all alike, what is dropped."""
    x, y = blobs()
    if dropout:
        x, y = np.ones_like(x), np.zeros_like(y)
    finds = []
    for seed in (0, 0, 1):
        layers = [dl.Dropout(0.5)] if dropout else []
        model = dl.Sequential(*layers, dl.Linear(8, 3), seed=0)
        finds.append(dl.lr_find(model, x, y, loss="cross_entropy", seed=seed, batch_size=8))
    np.testing.assert_array_equal(finds[0].loss, finds[1].loss)
    assert finds[0].suggestion == finds[1].suggestion
    assert not np.allclose(finds[0].loss[:50], finds[2].loss[:50], rtol=1e-4)


@pytest.mark.parametrize("end", [10.0, 1e30])
def test_it_ends_where_the_training_diverges(end):
    x, y = line(dtype=F32)
    found = dl.lr_find(linear(F32), x, y, loss="mse", optimizer="sgd", end=end, iterations=200)
    assert 20 < len(found.lr) == len(found.loss) < 200
    assert np.isfinite(found.loss).all()
    later = found.loss[200 // 7 :]
    assert (later <= 4 * np.minimum.accumulate(later)).all()
    assert found.suggestion < found.lr[-1]


def test_a_loss_that_overflows_in_the_midst():
    """From one iteration to the next: there is no loss in between that would be too large."""
    x, y = line(dtype=F32)
    found = dl.lr_find(
        linear(F32), x, y, loss="mse", optimizer="sgd", start=1e-8, end=1e30, iterations=20
    )
    assert 3 <= len(found.lr) < 20
    assert np.isfinite(found.loss).all()


def test_a_loss_below_0():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 4))
    y = rng.poisson(np.exp(2 + 0.3 * x[:, :1])).astype(F64)
    model = dl.Sequential(dl.Linear(4, 1), dtype=F64, seed=0)
    found = dl.lr_find(model, x, y, loss=dl.PoissonNLLLoss(), optimizer="sgd")
    assert found.loss.min() < -2
    assert 1e-4 < found.suggestion < 1


def test_rows_that_do_not_count_are_left_out():
    """Of single rows that are ignored there would be no loss."""
    x, y = blobs()
    kept = np.arange(600) % 10 == 0
    ignored = np.where(kept, y, -100)
    finds = [
        dl.lr_find(network(), x[rows], targets[rows], loss="cross_entropy", batch_size=4)
        for rows, targets in ((slice(None), ignored), (kept, y))
    ]
    np.testing.assert_array_equal(finds[0].loss, finds[1].loss)


def test_fewer_rows_than_a_batch():
    x, y = line(10)
    found = dl.lr_find(linear(), x, y, loss="mse", batch_size=64)
    assert 1e-3 < found.suggestion < 1


def test_ten_iterations_will_do():
    x, y = line()
    found = dl.lr_find(
        linear(), x, y, loss="mse", optimizer="sgd", start=1e-4, iterations=10, batch_size=200
    )
    assert 1e-3 < found.suggestion < 1


X, Y = line(20)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"start": 0.0}, ValueError, "0 < start < end, not 0.0 and 10.0"),
        ({"start": 1.0, "end": 0.1}, ValueError, "0 < start < end, not 1.0 and 0.1"),
        ({"end": np.inf}, ValueError, "0 < start < end"),
        ({"start": np.nan}, ValueError, "0 < start < end"),
        ({"iterations": 9}, ValueError, "iterations must be at least 10, not 9"),
        ({"iterations": 20.0}, ValueError, "iterations must be a positive integer, not 20.0"),
        ({"batch_size": 0}, ValueError, "batch_size must be a positive integer, not 0"),
        ({"batch_size": -3}, ValueError, "batch_size must be a positive integer, not -3"),
        ({"optimizer": "lion"}, ValueError, "must be one of sgd, adam, adamw, not 'lion'"),
        ({"loss": "none"}, ValueError, "none"),
        ({"y": Y[:10]}, ValueError, "x has 20 rows, y 10"),
        ({"x": X[:0], "y": Y[:0]}, ValueError, "no row that counts, of 0 rows"),
        ({"x": X[:, :3]}, ValueError, r"x must have shape \(N, 4\), not \(20, 3\)"),
        ({"x": X.astype(F32)}, TypeError, "x is float32, the model float64"),
        ({"x": X.tolist()}, TypeError, "x must be an array"),
        ({"start": 1e30, "end": 1e60}, ValueError, "diverged at once; begin with a smaller start"),
        ({"start": 10.0, "end": 1e3}, ValueError, "no learning rate made the loss fall"),
        ({"x": 0 * X, "batch_size": 20}, ValueError, "no learning rate made the loss fall"),
    ],
)
def test_errors(changes, error, message):
    model = linear()
    before = model.flat.copy()
    options = {"x": X, "y": Y, "loss": "mse", "optimizer": "sgd"} | changes
    with pytest.raises(error, match=message):
        dl.lr_find(model, **options)
    np.testing.assert_array_equal(model.flat, before)


def test_a_model_that_is_frozen():
    model = linear()
    model.freeze("0")
    with pytest.raises(ValueError, match="nothing to train"):
        dl.lr_find(model, X, Y, loss="mse")


def test_the_picture_marks_the_suggestion(tmp_path):
    pytest.importorskip("matplotlib")
    found = dl.lr_find(linear(), *line(), loss="mse")
    path = tmp_path / "rates.png"
    (axes,) = found.plot(path).axes
    curve, mark = axes.lines
    np.testing.assert_array_equal(curve.get_xdata(), found.lr)
    np.testing.assert_array_equal(curve.get_ydata(), found.loss)
    assert list(mark.get_xdata()) == [found.suggestion] * 2
    assert axes.get_xscale() == "log"
    assert axes.get_legend().texts[0].get_text() == f"suggestion: {found.suggestion:.2g}"
    assert path.stat().st_size > 5000


def test_the_picture_without_matplotlib(monkeypatch):
    found = dl.lr_find(linear(), *line(), loss="mse")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"lr_find\(...\).plot\(\) needs matplotlib: pip install"):
        found.plot()


# ---- the user's optimizer, weights, trainer and batches


class Plain:
    """An optimizer of the user's own, of no class of the package."""

    def __init__(self, params, lr):
        self.params, self.lr = list(params), lr

    def step(self, grads):
        for p, g in zip(self.params, grads, strict=True):
            p -= self.lr * g


def replayed(model, optimizer, lrs, x, y, accumulate=1):
    """Losses of full batches with these rates."""
    trainer = dl.Trainer(model, loss="mse", optimizer=optimizer, accumulate=accumulate)
    losses = []
    for lr in lrs:
        optimizer.lr = lr
        losses += trainer.fit([(x, y)] * accumulate, epochs=1, verbose=0)["loss"]
    return losses


def unsmoothed(found):
    """Return the losses that were smoothed."""
    past = 0.9 ** np.arange(1, len(found.loss) + 1)
    averages = found.loss * (1 - past)
    return np.diff(averages * 1.0, prepend=0.0) / 0.1 + np.r_[0.0, averages[:-1]]


OPTIMIZERS = {
    "momentum": lambda params: dl.SGD(params, lr=1e-5, momentum=0.9, weight_decay=0.1),
    "adam": lambda params: dl.Adam(params, lr=1e-5, betas=(0.5, 0.9), eps=1e-3),
    "plain": lambda params: Plain(params, 1e-5),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("by_trainer", [False, True])
def test_the_users_optimizer(name, by_trainer):
    x, y = line()
    model, other = linear(), linear()
    optimizer = OPTIMIZERS[name](model.parameters())
    options = {"optimizer": optimizer, "loss": "mse"}
    if by_trainer:
        options = {"trainer": dl.Trainer(model, loss="mse", optimizer=optimizer)}
    before = model.flat.copy()
    found = dl.lr_find(model, x, y, start=1e-4, batch_size=200, **options)
    np.testing.assert_array_equal(model.flat, before)
    assert optimizer.lr == 1e-5
    losses = replayed(other, OPTIMIZERS[name](other.parameters()), found.lr, x, y)
    np.testing.assert_allclose(unsmoothed(found), losses, rtol=1e-6)


def test_an_optimizer_goes_on_with_its_state():
    x, y = line()
    model, other = linear(), linear()
    for own in (model, other):
        adam = dl.Adam(own.parameters(), lr=1e-2)
        trainer = dl.Trainer(own, loss="mse", optimizer=adam)
        trainer.fit(x, y, epochs=3, batch_size=200, verbose=0)
        if own is model:
            state = repr(adam.state_dict())
            found = dl.lr_find(model, x, y, trainer=trainer, batch_size=200)
            assert repr(adam.state_dict()) == state
    losses = replayed(other, adam, found.lr, x, y)
    np.testing.assert_allclose(unsmoothed(found), losses, rtol=1e-6)


def test_groups_keep_the_ratio_of_their_rates():
    x, y = line()
    model = dl.Sequential(dl.Linear(4, 3), dl.Linear(3, 1), dtype=F64, seed=0)
    groups = [{"params": model.parameters("0"), "lr": 1e-3}, {"params": model.parameters("1")}]
    plain = dl.lr_find(model, x, y, loss="mse", optimizer=dl.SGD(model.parameters(), lr=1e-3))
    ten_times = dl.lr_find(model, x, y, loss="mse", optimizer=dl.SGD(groups, lr=1e-2))
    assert ten_times.lr[0] == plain.lr[0] == 1e-6
    assert ten_times.loss[40] < plain.loss[40]


def test_weights_of_rows_and_classes():
    x, y = line()
    weight = np.r_[np.ones(100), np.zeros(100)]
    some = dl.lr_find(linear(), x[:100], y[:100], loss="mse", batch_size=100)
    weighted = dl.lr_find(linear(), x, y, loss="mse", batch_size=100, sample_weight=weight)
    np.testing.assert_allclose(some.loss, weighted.loss, rtol=1e-9)
    x, y = blobs()
    by_class = dl.lr_find(network(), x, y, loss="cross_entropy", class_weight={0: 3.0})
    by_row = dl.lr_find(
        network(), x, y, loss="cross_entropy", sample_weight=np.where(y == 0, 3.0, 1.0)
    )
    np.testing.assert_array_equal(by_class.loss, by_row.loss)
    assert len(dl.lr_find(network(), x, y, loss="cross_entropy", class_weight="balanced").lr) > 10


@pytest.mark.parametrize("kind", ["list", "generator", "endless"])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_batches_of_an_iterable(kind, accumulate):
    x, y = line()
    batches = [(x[i : i + 20], y[i : i + 20]) for i in range(0, 200, 20)]
    given = batches
    if kind != "list":
        given = (batches[i % 10] for i in range(300 if kind == "generator" else 10**9))
    model = linear()
    sgd = dl.SGD(model.parameters(), lr=0.1)
    trainer = dl.Trainer(model, loss="mse", optimizer=sgd, accumulate=accumulate)
    found = dl.lr_find(model, given, trainer=trainer)
    order = np.tile(np.arange(200), 50)
    rows = x[order], y[order]
    plain = dl.Trainer(linear(), loss="mse", optimizer="sgd", accumulate=accumulate)
    plain.optimizer.lr = found.lr[0]
    history = plain.fit(
        *rows, epochs=1, batch_size=20, shuffle=False, max_iterations=1, log_every=1, verbose=0
    )
    assert unsmoothed(found)[0] == pytest.approx(history.iterations["loss"][0])
    assert trainer.optimizer.steps == 0


def test_batches_that_end_too_soon():
    x, y = line()
    with pytest.raises(ValueError, match="batches for at least 10 updates, not 3"):
        dl.lr_find(linear(), iter([(x, y)] * 3), loss="mse")
    with pytest.raises(ValueError, match="no batches"):
        dl.lr_find(linear(), [], loss="mse")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ValueError, "loss must be given, or a trainer"),
        ({"loss": "mse", "optimizer": dl.SGD([np.zeros(3)])}, ValueError, "no parameter of this"),
        ({"loss": "mse", "optimizer": object()}, TypeError, "has them as params"),
        ({"trainer": dl.Trainer(linear(), loss="mse")}, ValueError, "model must be that of the tr"),
        ({"loss": "mse", "y": None}, TypeError, "must be an iterable of batches"),
        (
            {"loss": "mse", "x": [(X, Y)], "y": None, "sample_weight": X[:, 0]},
            ValueError,
            "needs x",
        ),
    ],
)
def test_what_does_not_go_together(options, error, message):
    with pytest.raises(error, match=message):
        dl.lr_find(linear(), **({"x": X, "y": Y} | options))
