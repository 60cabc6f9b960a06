"""Large tables, of which an update touches the rows of the batch: what comes out is that of an update of all rows.

Batches one by one, by `train_on_batch`, are updates of whole tables: nothing can wait for the next.
"""

import copy

import numpy as np
import pytest

import dlcore as dl
from dlcore.training._step import TrainingStep

ROWS, BATCH, STEPS = 700, 10, 40


def optimizers(lr=0.01):
    return {
        "sgd": lambda p: dl.SGD(p, lr=lr),
        "momentum": lambda p: dl.SGD(p, lr=lr, momentum=0.9),
        "dampening": lambda p: dl.SGD(p, lr=lr, momentum=0.8, dampening=0.5),
        "nesterov": lambda p: dl.SGD(p, lr=lr, momentum=0.9, nesterov=True),
        "maximize": lambda p: dl.SGD(p, lr=lr, momentum=0.9, maximize=True),
        "momentum decay": lambda p: dl.SGD(p, lr=lr, momentum=0.9, weight_decay=0.01),
        "adam": lambda p: dl.Adam(p, lr=lr),
        "adam 0.95": lambda p: dl.Adam(p, lr=lr, betas=(0.9, 0.95)),
        "adam 0": lambda p: dl.Adam(p, lr=lr, betas=(0.0, 0.99)),
        "adam without root": lambda p: dl.Adam(p, lr=lr, betas=(0.99, 0.9)),
        "amsgrad": lambda p: dl.Adam(p, lr=lr, amsgrad=True),
        "adam decay": lambda p: dl.Adam(p, lr=lr, weight_decay=0.01),
        "adam l1": lambda p: dl.Adam(p, lr=lr, l1=0.01),
        "adam maximize": lambda p: dl.Adam(p, lr=lr, maximize=True),
        "adamw": lambda p: dl.AdamW(p, lr=lr, weight_decay=0.1),
    }


def table_of(dim=7, dtype=np.float64):
    return dl.Sequential(dl.Embedding(ROWS, dim), dl.Linear(dim, 3), dtype=dtype, seed=0)


def columns_of(dtype=np.float64):
    """Numbers and three columns of codes, of which two have large tables, and a narrow network."""
    embeddings = dl.CategoricalEmbeddings(
        [ROWS, 3, 2 * ROWS], [4, 2, 9], columns=[0, 3, 1], missing="category"
    )
    return dl.Sequential(embeddings, dl.Linear(16, 3), dtype=dtype, seed=0)


def one_hot_of(dtype=np.float64):
    layers = dl.OneHotLinear([ROWS, 2 * ROWS], 3, missing="zeros"), dl.Tanh(), dl.Linear(3, 3)
    return dl.Sequential(*layers, dtype=dtype, seed=0)


def rows(model, steps=STEPS, dtype=np.float64, batch=BATCH):
    rng = np.random.default_rng(0)
    n = steps * batch
    x = np.stack([rng.integers(ROWS, size=n) // rng.integers(1, 9, size=n) for _ in range(4)], 1)
    x = x.astype(dtype)
    x[:, 3] %= 3
    x[:, 2] = rng.normal(size=n)
    if model is not table_of:
        x[rng.random(n) < 0.1, 0] = np.nan
    x = x[:, : model().in_features]
    return x, rng.integers(3, size=n)


def trainer_of(model, optimizer, **options):
    own = optimizer(model.parameters())
    return dl.Trainer(model, loss="cross_entropy", optimizer=own, seed=0, **options)


def fitted(make, optimizer, x, y, epochs=2, **options):
    model = make(dtype=x.dtype)
    trainer = trainer_of(model, optimizer, **options)
    trainer.fit(x, y, epochs=epochs, batch_size=BATCH, shuffle=False, verbose=0)
    return model, trainer


def stepped(make, optimizer, x, y, epochs=2, **options):
    model = make(dtype=x.dtype)
    trainer = trainer_of(model, optimizer, **options)
    for start in [*range(0, len(x), BATCH)] * epochs:
        trainer.train_on_batch(x[start : start + BATCH], y[start : start + BATCH])
    return model, trainer


def state_of(trainer):
    """All arrays of the optimizer."""
    arrays = []

    def walk(value):
        if isinstance(value, dict):
            [walk(own) for own in value.values()]
        elif isinstance(value, list | tuple):
            [walk(own) for own in value]
        elif isinstance(value, np.ndarray):
            arrays.append(value)

    walk(trainer.optimizer.state_dict())
    return arrays


def check_same(a, b, tolerance=0.0):
    arrays = [[model.flat, *state_of(trainer)] for model, trainer in (a, b)]
    for own, its in zip(*arrays, strict=True):
        np.testing.assert_allclose(own, its, rtol=tolerance, atol=0)


@pytest.mark.parametrize("make", [table_of, columns_of, one_hot_of])
@pytest.mark.parametrize("name", optimizers())
def test_updates_that_wait_give_the_bits_of_those_that_do_not(name, make):
    x, y = rows(make)
    optimizer = optimizers()[name]
    # What shrinks, and what no mean moves, is a power from the first update on.
    tolerance = 1e-9 if name in ("adam 0", "adamw") else 0.0
    check_same(fitted(make, optimizer, x, y), stepped(make, optimizer, x, y), tolerance)


def ensemble_of(dtype=np.float64):
    """Members that share tables."""
    embeddings = dl.CategoricalEmbeddings([ROWS, 3], 4, columns=[0, 3])
    layers = dl.LinearBatchEnsemble(10, 4, 3, scaling_init="normal"), dl.LinearEnsemble(4, 3, 3)
    return dl.Sequential(embeddings, *layers, dl.EnsembleMean("softmax"), dtype=dtype, seed=0)


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_members_that_share_tables(name):
    x, y = rows(ensemble_of)
    x = np.nan_to_num(x)
    optimizer = optimizers()[name]
    a, b = (fit(ensemble_of, optimizer, x, y) for fit in (fitted, stepped))
    check_same(a, b, 1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dim", [1, 3, 8, 16, 37])
def test_any_width(dim, dtype):
    make = lambda dtype: table_of(dim, dtype)
    x, y = rows(table_of, 20, dtype)
    optimizer = optimizers(1e-2)["adam"]
    check_same(fitted(make, optimizer, x, y, epochs=1), stepped(make, optimizer, x, y, epochs=1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["momentum", "nesterov", "adam", "adam 0.95", "adamw"])
def test_rows_that_wait_for_long_are_right_up_to_rounding(name, dtype):
    x, y = rows(table_of, 1500, dtype)
    x[: 3 * BATCH, 0] = np.arange(3 * BATCH) + ROWS - 3 * BATCH  # and wait to the end
    x[3 * BATCH :, 0] %= ROWS - 3 * BATCH
    optimizer = optimizers(1e-3)[name]
    model, trainer = fitted(table_of, optimizer, x, y, epochs=1)
    other, by = stepped(table_of, optimizer, x, y, epochs=1)
    close = {"rtol": 2e-4, "atol": 2e-6} if dtype == np.float32 else {"rtol": 1e-8, "atol": 1e-12}
    np.testing.assert_allclose(model.flat, other.flat, **close)
    for own, its in zip(state_of(trainer), state_of(by), strict=True):
        np.testing.assert_allclose(own, its, rtol=5e-3 if dtype == np.float32 else 1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ["momentum", "adam", "adamw"])
@pytest.mark.parametrize("options", [{"clip_grad_norm": 0.1}, {"clip_grad_value": 1e-3}], ids=str)
def test_limits_on_gradients(options, name):
    x, y = rows(columns_of)
    optimizer = optimizers()[name]
    a = fitted(columns_of, optimizer, x, y, **options)
    b = stepped(columns_of, optimizer, x, y, **options)
    np.testing.assert_allclose(a[0].flat, b[0].flat, rtol=1e-9, atol=1e-12)
    free = fitted(columns_of, optimizer, x, y)
    assert np.abs(a[0].flat - free[0].flat).max() > 1e-4


def test_averages_of_weights():
    x, y = rows(columns_of)
    optimizer = optimizers()["adam"]
    model, _ = fitted(
        columns_of, optimizer, x, y, epochs=1, callbacks=[dl.ExponentialMovingAverage(0.9)]
    )
    weights = columns_of()
    trainer = trainer_of(weights, optimizer)
    average = weights.flat.copy()
    for start in range(0, len(x), BATCH):
        trainer.train_on_batch(x[start : start + BATCH], y[start : start + BATCH])
        average += (1 - 0.9) * (weights.flat - average)
    np.testing.assert_allclose(model.flat, average, rtol=1e-10, atol=1e-12)


def test_learning_rates_that_rise_and_fall():
    x, y = rows(table_of, 200)
    schedule = dl.OneCycleLR(max_lr=0.05, total_steps=400, per="iteration")
    optimizer = optimizers()["adam"]
    model, _ = fitted(table_of, optimizer, x, y, schedule=schedule)
    other, _ = stepped(table_of, optimizer, x, y, schedule=schedule)
    np.testing.assert_allclose(model.flat, other.flat, rtol=1e-9, atol=1e-12)


def test_rates_that_take_parameters_beyond_zero():
    """Of a factor 1 - lr * weight_decay that is negative there is no power."""
    x, y = rows(table_of)
    schedule = dl.OneCycleLR(max_lr=0.05, total_steps=2 * STEPS, per="iteration")
    own = lambda p: dl.AdamW(p, lr=0.01, weight_decay=25.0)
    a = fitted(table_of, own, x, y, schedule=schedule)
    check_same(a, stepped(table_of, own, x, y, schedule=schedule), 1e-9)


def test_groups_with_options_of_their_own():
    x, y = rows(columns_of)
    own = lambda p: dl.AdamW([{"params": p[:1], "lr": 0.1}, {"params": p[1:]}], weight_decay=0.0)
    check_same(fitted(columns_of, own, x, y), stepped(columns_of, own, x, y))


def test_frozen_tables():
    x, y = rows(columns_of)

    def make(dtype):
        model = columns_of(dtype)
        model.freeze("0.0")
        return model

    optimizer = optimizers()["adam"]
    check_same(fitted(make, optimizer, x, y), stepped(make, optimizer, x, y))


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "adamw"])
def test_threads_do_not_change_a_bit(name):
    states = []
    for threads in (1, 2, 4):
        with dl.num_threads(threads):
            model = dl.Sequential(
                dl.CategoricalEmbeddings([9000, 8000], 40), dl.Linear(80, 3), seed=0
            )
            rng = np.random.default_rng(0)
            x = rng.integers(8000, size=(3200, 2)).astype(np.float32)
            trainer = trainer_of(model, optimizers()[name])
            trainer.fit(x, rng.integers(3, size=3200), epochs=2, batch_size=100, verbose=0)
            states.append(model.flat.tobytes())
    assert len(set(states)) == 1


def looked_at(monkeypatch, model, f):
    """The parameters after each batch, as they are in memory."""
    seen = []
    run = TrainingStep.run

    def spied(self, plan, **options):
        between = options.pop("between")

        def look(done):
            seen.append(model.flat.copy())
            between(done)

        return run(self, plan, **options | {"seconds": 0.0, "between": look})

    monkeypatch.setattr(TrainingStep, "run", spied)
    f()
    return seen


def test_rows_that_are_not_in_the_batch_are_not_touched(monkeypatch):
    model = table_of()
    x, y = rows(table_of)
    trainer = trainer_of(model, optimizers()["adam"])
    fit = lambda: trainer.fit(x, y, epochs=1, batch_size=BATCH, shuffle=False, verbose=0)
    tables = [flat[: ROWS * 7].reshape(ROWS, 7) for flat in looked_at(monkeypatch, model, fit)]
    assert len(tables) >= STEPS - 1
    for i in range(len(tables) - 2):
        changed = np.flatnonzero((tables[i] != tables[i + 1]).any(1))
        near = x[(i + 1) * BATCH : (i + 2) * BATCH, 0]
        assert set(changed) <= set(near.astype(int)), i
    moved = (model[0].weight != tables[-1]).any(1)
    assert moved.any()  # what had waited


def test_what_callbacks_see_is_up_to_date():
    x, y = rows(table_of)
    model = table_of()
    seen = []

    class Look(dl.Callback):
        def on_epoch_end(self, epoch, logs):  # noqa: ARG002
            seen.append(model.flat.copy())

    optimizer = optimizers()["adam"]
    fitted(lambda **_: model, optimizer, x, y, epochs=3, callbacks=[Look()])
    assert len(seen) == 3
    for epoch, flat in enumerate(seen):
        other, _ = stepped(table_of, optimizer, x, y, epochs=epoch + 1)
        assert flat.tobytes() == other.flat.tobytes()


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam"])
def test_a_step_that_is_taken_back_leaves_all_rows_as_they_are(name):
    x, y = rows(columns_of)
    x[25 * BATCH, 2] = np.inf  # the loss of this step is not finite
    states = []
    for fit in (fitted, stepped):
        model = columns_of()
        make = lambda model=model, **_: model
        with pytest.raises(FloatingPointError):
            fit(make, optimizers()[name], x, y, epochs=1)
        states.append(model.flat.tobytes())
    assert states[0] == states[1]
    assert np.isfinite(model.flat).all()


def test_steps_that_may_be_taken_back_are_of_all_rows():
    x, y = rows(columns_of, dtype=np.float32)
    x[[25 * BATCH, 31 * BATCH], 2] = 1e34  # of which nobody knows before that it stays finite
    optimizer = optimizers()["adam"]
    check_same(fitted(columns_of, optimizer, x, y), stepped(columns_of, optimizer, x, y))


def test_a_batch_whose_rows_are_no_categories_ends_it_with_all_rows_up_to_date(monkeypatch):
    from dlcore.training import _dataset

    monkeypatch.setattr(_dataset, "_check_codes", lambda *_: None)
    x, y = rows(table_of)
    x[305, 0] = ROWS
    model = table_of()
    trainer = trainer_of(model, optimizers()["adam"])
    with pytest.raises(IndexError, match=rf"x\[305, 0\] is {ROWS}"):
        trainer.fit(x, y, epochs=1, batch_size=BATCH, shuffle=False, verbose=0)
    other, _ = stepped(table_of, optimizers()["adam"], x[:300], y[:300], epochs=1)
    assert model.flat.tobytes() == other.flat.tobytes()


def test_a_fit_that_is_interrupted_leaves_all_rows_up_to_date(monkeypatch):
    x, y = rows(table_of)
    model = table_of()
    trainer = trainer_of(model, optimizers()["adam"])
    run = TrainingStep.run

    def interrupted(self, plan, **options):
        def between(done):
            if done == 20:
                raise KeyboardInterrupt

        return run(self, plan, **options | {"seconds": 0.0, "between": between})

    monkeypatch.setattr(TrainingStep, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(x, y, epochs=1, batch_size=BATCH, shuffle=False, verbose=0)
    monkeypatch.undo()
    other, _ = stepped(table_of, optimizers()["adam"], x[:200], y[:200], epochs=1)
    assert model.flat.tobytes() == other.flat.tobytes()


def test_a_copy_goes_on_as_the_original():
    x, y = rows(columns_of)
    model, trainer = fitted(columns_of, optimizers()["adam"], x, y)
    other, optimizer = copy.deepcopy((model, trainer.optimizer))
    by = dl.Trainer(other, loss="cross_entropy", optimizer=optimizer, seed=0)
    for own in (trainer, by):
        own.fit(x, y, epochs=1, batch_size=BATCH, shuffle=False, verbose=0)
    assert model.flat.tobytes() == other.flat.tobytes()
