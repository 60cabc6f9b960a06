"""Averages of weights against replays of the fits, and the statistics that go with them."""

import pickle

import numpy as np
import pytest

import dlcore as dl

F32, F64 = np.float32, np.float64
DTYPES = pytest.mark.parametrize("dtype", [F32, F64], ids=["float32", "float64"])
NARROW, WIDE = (5, 4, 3), (64, 256, 3)
DECAY = 0.8


class Own(dl.SGD):
    """An optimizer of the user's own, which is called between native passes."""

    def step(self, grads):
        super().step(grads)


class Weights(dl.Callback):
    """Keeps the weights that are in the model at the end of each epoch."""

    def on_fit_begin(self):
        self.seen = []

    def on_epoch_end(self, *_):
        self.seen.append(self.trainer.model.flat.copy())


class Failing(dl.Callback):
    """Ends a fit with an error in its second epoch."""

    def on_epoch_begin(self, epoch):
        if epoch == 1:
            raise RuntimeError("enough")


def rows(n=90, features=5, dtype=F64, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, features)).astype(dtype), rng.integers(0, 3, n)


def network(widths=NARROW, dtype=F64, frozen=(), max_norm=None):
    layers = dl.Linear(*widths[:2], max_norm=max_norm), dl.Tanh(), dl.Linear(*widths[1:])
    model = dl.Sequential(*layers, dtype=dtype, seed=0)
    for name in frozen:
        model.freeze(name)
    return model


def normed(dtype=F64):
    """Return a network with two layers of running statistics."""
    layers = [dl.Linear(5, 6), dl.BatchNorm1d(6), dl.ReLU(), dl.Linear(6, 4), dl.BatchNorm1d(4)]
    return dl.Sequential(*layers, dl.Tanh(), dl.Linear(4, 3), dtype=dtype, seed=0)


OPTIMIZERS = {
    "sgd": lambda p: dl.SGD(p, lr=0.1),
    "momentum": lambda p: dl.SGD(p, lr=0.05, momentum=0.9),
    "adam": lambda p: dl.Adam(p, lr=0.02),
    "own": lambda p: Own(p, lr=0.1),
    "groups": lambda p: dl.AdamW([{"params": p[:2], "lr": 0.03}, {"params": p[2:]}], l1=1e-3),
}


def trainer_of(model, name="sgd", **options):
    optimizer = OPTIMIZERS[name](model.parameters())
    return dl.Trainer(model, loss="cross_entropy", optimizer=optimizer, seed=0, **options)


def fit(trainer, x, y=None, epochs=3, **options):
    return trainer.fit(x, y, epochs=epochs, **({"verbose": 0, "shuffle": False} | options))


def replay(trainer, x, y, decay, *, epochs, size):
    """Fit update by update; return the averages at the ends of the epochs."""
    weights = average = trainer.model.flat.astype(F64)
    ends = []
    for _ in range(epochs):
        for start in range(0, len(x), size):
            some = slice(start, start + size)
            fit(trainer, x[some], y[some], 1, batch_size=size)
            weights = trainer.model.flat.astype(F64)
            average = decay * average + (1 - decay) * weights
        ends.append(average)
    assert not np.allclose(weights, average, rtol=1e-3)
    return ends


def assert_near(a, b, dtype, scale=1.0):
    tolerance = scale * (2e-6 if dtype == F32 else 1e-13)
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


# ---- exponential moving average


@DTYPES
@pytest.mark.parametrize("widths", [NARROW, WIDE], ids=["narrow", "wide"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_average_is_that_of_the_weights_after_each_update(name, widths, dtype):
    x, y = rows(features=widths[0], dtype=dtype)
    seen = Weights()
    trainer = trainer_of(network(widths, dtype), name)
    fit(trainer, x, y, batch_size=10, callbacks=[dl.ExponentialMovingAverage(DECAY), seen])
    once = trainer_of(network(widths, dtype), name)
    expected = replay(once, x, y, DECAY, epochs=3, size=10)
    for own, other in zip(seen.seen, expected, strict=True):
        assert_near(own, other, dtype, 10 if name == "own" else 1)
    np.testing.assert_array_equal(trainer.model.flat, seen.seen[-1])


def test_the_average_of_full_batches_by_hand():
    """A line through one point: the gradients, weights and averages can be written down."""
    model = dl.Sequential(dl.Linear(1, 1, bias=False), dtype=F64)
    model.flat[:] = 0.0
    trainer = dl.Trainer(model, loss="mse", optimizer=dl.SGD(model.parameters(), lr=0.25))
    seen = Weights()
    one = np.ones((1, 1))
    fit(trainer, one, one, callbacks=[seen, dl.ExponentialMovingAverage(0.5)])
    # w <- w + (1 - w) / 2: 1/2, 3/4, 7/8; and a <- (a + w) / 2 from 0 on.
    assert [w.tolist() for w in seen.seen] == [[1 / 4], [1 / 2], [11 / 16]]


@DTYPES
@pytest.mark.parametrize("widths", [NARROW, WIDE], ids=["narrow", "wide"])
@pytest.mark.parametrize("name", ["momentum", "own"])
@pytest.mark.parametrize(
    "options",
    [
        {"clip_grad_norm": 0.05},
        {"clip_grad_value": 0.002},
        {"accumulate": 3},
        {"accumulate": 2, "clip_grad_norm": 0.05},
    ],
    ids=str,
)
def test_the_average_with_other_options(options, name, widths, dtype):
    x, y = rows(features=widths[0], dtype=dtype)
    model = network(widths, dtype)
    trainer = trainer_of(model, name, **options)
    fit(trainer, x, y, batch_size=10, callbacks=[dl.ExponentialMovingAverage(DECAY)])
    once = trainer_of(
        network(widths, dtype), name, **{k: v for k, v in options.items() if k != "accumulate"}
    )
    size = 10 * options.get("accumulate", 1)
    expected = replay(once, x, y, DECAY, epochs=3, size=size)
    assert_near(model.flat, expected[-1], dtype, 10)


@DTYPES
@pytest.mark.parametrize("name", ["adam", "own"])
@pytest.mark.parametrize("frozen", [["0"], ["2.weight"], ["0.bias", "2"]], ids=str)
def test_frozen_layers_have_no_average(frozen, name, dtype):
    x, y = rows(features=WIDE[0], dtype=dtype)
    model = network(WIDE, dtype, frozen)
    before = model.named_parameters()
    before = {n: before[n].tobytes() for n in model.frozen}
    fit(trainer_of(model, name), x, y, batch_size=10, callbacks=[dl.ExponentialMovingAverage(0.8)])
    own = model.named_parameters()
    assert {n: own[n].tobytes() for n in before} == before
    expected = replay(trainer_of(network(WIDE, dtype, frozen), name), x, y, 0.8, epochs=3, size=10)
    assert_near(model.flat, expected[-1], dtype, 10)


def test_the_average_of_weights_that_keep_to_a_norm_keeps_to_it():
    x, y = rows()
    model = network(max_norm=0.4)
    assert np.linalg.norm(model[0].weight, axis=1).min() > 0.4
    fit(trainer_of(model), x, y, 30, batch_size=10, callbacks=[dl.ExponentialMovingAverage(0.5)])
    assert np.linalg.norm(model[0].weight, axis=1).max() <= 0.4 * (1 + 1e-12)


@pytest.mark.parametrize("widths", [NARROW, WIDE], ids=["narrow", "wide"])
def test_a_decay_of_0_is_the_weights_themselves(widths):
    x, y = rows(features=widths[0], dtype=F32)
    plain, averaged = (network(widths, F32) for _ in range(2))
    fit(trainer_of(plain, "adam"), x, y, batch_size=10)
    ema = dl.ExponentialMovingAverage(0.0)
    fit(trainer_of(averaged, "adam"), x, y, batch_size=10, callbacks=[ema])
    assert_near(averaged.flat, plain.flat, F32)


@DTYPES
def test_any_number_of_threads_gives_the_same_average(dtype):
    widths = (64, 256, 10)
    x, y = rows(2560, widths[0], dtype)
    ends = []
    for threads in (1, 2):
        with dl.num_threads(threads):
            model = network(widths, dtype)
            ema = dl.ExponentialMovingAverage(0.9)
            fit(trainer_of(model, "adam"), x, y, 1, batch_size=256, callbacks=[ema])
        ends.append(model.flat)
    np.testing.assert_array_equal(*ends)


def test_batches_of_an_iterable_have_the_same_average():
    x, y = rows()
    models = [network(), network()]
    batches = [(x[i : i + 10], y[i : i + 10]) for i in range(0, 90, 10)]
    for model, data in zip(
        models, [{"x": x, "y": y, "batch_size": 10}, {"x": batches}], strict=True
    ):
        ema = dl.ExponentialMovingAverage(0.9)
        fit(trainer_of(model), **data, callbacks=[ema])
    np.testing.assert_array_equal(models[0].flat, models[1].flat)


def test_batches_that_count_nothing_move_no_average():
    x, y = rows()
    weight = np.ones(90)
    weight[10:40] = 0
    models = [network(), network()]
    counted = weight > 0
    for model, data, options in zip(
        models,
        [(x, y), (x[counted], y[counted])],
        [{"sample_weight": weight}, {}],
        strict=True,
    ):
        ema = dl.ExponentialMovingAverage(0.9)
        fit(trainer_of(model), *data, 1, batch_size=10, callbacks=[ema], **options)
    assert_near(models[0].flat, models[1].flat, F64)


def test_validation_sees_the_average():
    x, y = rows()
    seen, ema = Weights(), dl.ExponentialMovingAverage(0.9)
    trainer, plain = trainer_of(network()), trainer_of(network())
    data = {"validation_data": (x[60:], y[60:]), "batch_size": 10}
    history = fit(trainer, x[:60], y[:60], callbacks=[ema, seen], **data)
    raw = fit(plain, x[:60], y[:60], **data)
    assert history["loss"] == raw["loss"]  # training goes on with the weights themselves
    model = network()
    for loss, other, weights in zip(history["val_loss"], raw["val_loss"], seen.seen, strict=True):
        model.flat[:] = weights
        assert loss == trainer_of(model).evaluate(x[60:], y[60:])["loss"]
        assert loss != pytest.approx(other, rel=1e-4)


def test_early_stopping_restores_the_best_average():
    x, y = rows()
    y[:60] = x[:60, :3].argmax(1)  # the others are noise
    seen, stopping = Weights(), dl.EarlyStopping(patience=2)
    trainer = trainer_of(network(), "momentum")
    history = fit(
        trainer,
        x[:60],
        y[:60],
        200,
        batch_size=10,
        validation_data=(x[60:], y[60:]),
        callbacks=[seen, stopping, dl.ExponentialMovingAverage(0.9)],
    )
    assert 0 < stopping.best_epoch == len(seen.seen) - 3
    np.testing.assert_array_equal(trainer.model.flat, seen.seen[stopping.best_epoch])
    best = trainer.evaluate(x[60:], y[60:])["loss"]
    assert best == min(history["val_loss"]) == stopping.best


def test_running_statistics_are_those_of_the_weights():
    x, y = rows()
    models = [normed(), normed()]
    for model, callbacks in zip(models, [[], [dl.ExponentialMovingAverage(0.9)]], strict=True):
        fit(trainer_of(model), x, y, batch_size=30, callbacks=callbacks)
    plain, averaged = (model.state_dict() for model in models)
    for name in ("1.running_mean", "4.running_var", "4.num_batches_tracked"):
        np.testing.assert_array_equal(plain[name], averaged[name])
    assert not np.allclose(plain["0.weight"], averaged["0.weight"])


@pytest.mark.parametrize("pieces", [[3, 3], [1, 2, 3], [0, 6], [5, 0, 1]])
def test_a_fit_in_pieces_is_one_fit(pieces):
    """The weights themselves are trained on, and the average goes on (lightning#11688)."""
    x, y = rows()
    runs = []
    for epochs in ([6], pieces):
        ema = dl.ExponentialMovingAverage(DECAY)
        trainer = trainer_of(network(), "momentum", callbacks=[ema])
        losses = [
            loss for n in epochs for loss in fit(trainer, x, y, n, batch_size=10).get("loss", [])
        ]
        runs.append((losses, trainer.model.flat))
    assert runs[0][0] == runs[1][0]
    np.testing.assert_array_equal(runs[0][1], runs[1][1])


def test_a_fit_that_was_broken_off_goes_on():
    x, y = rows()

    class Break(dl.Callback):
        def on_batch_end(self, batch, logs):  # noqa: ARG002
            if self.trainer.history.epoch and batch == 1:
                raise KeyboardInterrupt

    trainer = trainer_of(network(), callbacks=[dl.ExponentialMovingAverage(DECAY)])
    with pytest.raises(KeyboardInterrupt):
        fit(trainer, x, y, 3, batch_size=10, callbacks=[Break()])
    once = trainer_of(network())
    once.model.flat[:] = trainer.model.flat  # the weights themselves
    averages = trainer.callbacks[0]._other.copy()
    fit(trainer, x, y, 1, batch_size=10, shuffle=False)
    expected = averages
    for start in range(0, len(x), 10):
        fit(once, x[start : start + 10], y[start : start + 10], 1, batch_size=10, shuffle=False)
        expected = DECAY * expected + (1 - DECAY) * once.model.flat
    assert_near(trainer.model.flat, expected, F64)


def test_a_fit_that_cannot_begin_leaves_the_average_to_go_on_with():
    x, y = rows()
    ends = []
    for fails in (False, True):
        trainer = trainer_of(network(), callbacks=[dl.ExponentialMovingAverage(DECAY)])
        fit(trainer, x, y, 2)
        for name in ("freeze", "unfreeze") if fails else ():
            for layer in range(len(trainer.model)):
                if trainer.model[layer]._parameter_shapes:
                    getattr(trainer.model, name)(str(layer))
            if name == "freeze":
                with pytest.raises(ValueError, match="nothing to train"):
                    fit(trainer, x, y, 1)
        fit(trainer, x, y, 2)
        ends.append(trainer.model.flat)
    np.testing.assert_array_equal(*ends)


def test_a_model_that_was_changed_begins_a_new_average():
    x, y = rows()
    ema = dl.ExponentialMovingAverage(DECAY)
    trainer = trainer_of(network(), callbacks=[ema])
    fit(trainer, x, y, batch_size=10)
    trainer.model.flat[:] *= 0.5
    once = trainer_of(network())
    once.model.flat[:] = trainer.model.flat
    fit(trainer, x, y, batch_size=10)
    expected = replay(once, x, y, DECAY, epochs=3, size=10)
    assert_near(trainer.model.flat, expected[-1], F64)


def test_a_decay_that_is_set_acts_in_the_next_epoch():
    x, y = rows()

    class Decay(dl.Callback):
        def on_epoch_end(self, epoch, logs):  # noqa: ARG002
            ema.decay = 0.0

    ema = dl.ExponentialMovingAverage(0.99)
    plain, trainer = trainer_of(network()), trainer_of(network(), callbacks=[ema, Decay()])
    fit(plain, x, y, 2)
    fit(trainer, x, y, 2)
    np.testing.assert_array_equal(trainer.model.flat, plain.model.flat)
    with pytest.raises(ValueError, match="decay must be in"):
        ema.decay = 1.0


@pytest.mark.parametrize("name", ["adam", "own"])
@pytest.mark.parametrize("widths", [NARROW, WIDE], ids=["narrow", "wide"])
def test_divergence_leaves_the_last_finite_weights(widths, name):
    x, y = rows(features=widths[0], dtype=F32)
    bad = x.copy()
    bad[77, 1] = np.nan
    models = [network(widths, F32) for _ in range(2)]
    for model, callbacks in zip(models, [[], [dl.ExponentialMovingAverage(0.9)]], strict=True):
        trainer = trainer_of(model, name)
        fit(trainer, x, y, 1, batch_size=10)
        with pytest.raises(FloatingPointError, match="epoch 1, step 8: the loss is nan"):
            fit(trainer, bad, y, batch_size=10, callbacks=callbacks)
    np.testing.assert_array_equal(models[0].flat, models[1].flat)
    assert np.isfinite(models[0].flat).all()


def test_an_error_between_two_epochs_leaves_weights_to_go_on_with():
    x, y = rows()
    plain, trainer = trainer_of(network()), trainer_of(network())
    fit(plain, x, y, 1)
    with pytest.raises(RuntimeError, match="enough"):
        fit(trainer, x, y, callbacks=[dl.ExponentialMovingAverage(0.9), Failing()])
    np.testing.assert_array_equal(trainer.model.flat, plain.model.flat)
    assert np.isfinite(fit(trainer, x, y)["loss"]).all()


def test_a_pickled_average_averages_the_same():
    x, y = rows()
    ends = []
    for ema in (
        dl.ExponentialMovingAverage(0.7),
        pickle.loads(pickle.dumps(dl.ExponentialMovingAverage(0.7))),
    ):
        trainer = trainer_of(network())
        fit(trainer, x, y, callbacks=[ema])
        ends.append(trainer.model.flat)
    np.testing.assert_array_equal(*ends)


@pytest.mark.parametrize("decay", [-0.1, 1, 1.5, np.nan])
def test_a_decay_out_of_range(decay):
    with pytest.raises(ValueError, match=rf"decay must be in \[0, 1\), not {decay}"):
        dl.ExponentialMovingAverage(decay)


def test_two_averages_at_once():
    x, y = rows()
    trainer = trainer_of(network(), callbacks=[dl.ExponentialMovingAverage(0.9)])
    before = trainer.model.flat.copy()
    with pytest.raises(ValueError, match="one ExponentialMovingAverage, not several"):
        fit(trainer, x, y, callbacks=[dl.ExponentialMovingAverage(0.99)])
    np.testing.assert_array_equal(trainer.model.flat, before)


# ---- stochastic weight averaging


@DTYPES
@pytest.mark.parametrize("name", ["momentum", "own"])
@pytest.mark.parametrize(("start", "every"), [(0, 1), (2, 1), (1, 3), (6, 2), (5, 100)])
def test_the_mean_of_the_weights_at_the_ends_of_epochs(start, every, name, dtype):
    x, y = rows(dtype=dtype)
    swa, seen = dl.StochasticWeightAveraging(start, every), Weights()
    trainer = trainer_of(network(dtype=dtype), name)
    history = fit(trainer, x, y, 7, batch_size=10, callbacks=[swa, seen])
    counted = seen.seen[start::every]
    assert swa.averaged == len(counted)
    expected = np.mean(np.array(counted, F64), axis=0)
    np.testing.assert_allclose(trainer.model.flat, expected, rtol=2 * np.finfo(dtype).eps)
    plain = trainer_of(network(dtype=dtype), name)
    assert history["loss"] == fit(plain, x, y, 7, batch_size=10)["loss"]


def test_without_an_epoch_that_counts_the_weights_stay():
    x, y = rows()
    swa, seen = dl.StochasticWeightAveraging(3), Weights()
    trainer = trainer_of(normed())
    fit(trainer, x, y, 3, batch_size=30, callbacks=[swa, seen])
    assert swa.averaged == 0
    np.testing.assert_array_equal(trainer.model.flat, seen.seen[-1])
    assert trainer.model[1].num_batches_tracked == 9


def test_each_fit_has_a_mean_of_its_own():
    x, y = rows()
    swa, seen = dl.StochasticWeightAveraging(1), Weights()
    trainer = trainer_of(network(), callbacks=[swa, seen])
    fit(trainer, x, y, 5)
    fit(trainer, x, y, 3)
    assert swa.averaged == 2
    np.testing.assert_allclose(trainer.model.flat, np.mean(seen.seen[1:], axis=0), rtol=1e-14)


def test_frozen_layers_keep_their_bits_in_a_mean():
    x, y = rows(dtype=F32)
    model = network(dtype=F32, frozen=["0"])
    model[0].weight[0] = -0.0
    before = model[0].weight.tobytes()
    fit(trainer_of(model), x, y, callbacks=[dl.StochasticWeightAveraging(0)])
    assert model[0].weight.tobytes() == before


def layer_inputs(model, x):
    """Compute what each layer of `normed` gets in inference, in plain NumPy."""
    found = []
    for layer in model:
        found.append(x)
        if isinstance(layer, dl.Linear):
            x = x @ layer.weight.T + layer.bias
        elif isinstance(layer, dl.BatchNorm1d):
            spread = np.sqrt(layer.running_var + layer.eps)
            x = (x - layer.running_mean) / spread * layer.weight + layer.bias
        else:
            x = np.maximum(x, 0) if isinstance(layer, dl.ReLU) else np.tanh(x)
    return found


def assert_statistics_of(model, x, dtype=F64):
    for i in (1, 4):
        values = layer_inputs(model, x)[i].astype(F64)
        assert_near(model[i].running_mean, values.mean(0), dtype, 10)
        assert_near(model[i].running_var, values.var(0, ddof=1), dtype, 10)


@DTYPES
@pytest.mark.parametrize("as_batches", [False, True], ids=["arrays", "batches"])
def test_a_mean_gets_running_statistics_of_its_own(as_batches, dtype):
    x, y = rows(dtype=dtype)
    trainer = trainer_of(normed(dtype))
    batches = {"x": [(x[:20], y[:20]), (x[20:], y[20:])]}
    data = batches if as_batches else {"x": x, "y": y, "batch_size": 30}
    fit(trainer, **data, epochs=6, callbacks=[dl.StochasticWeightAveraging(2)])
    assert_statistics_of(trainer.model, x, dtype)


def test_the_statistics_are_of_the_rows_to_train_on():
    kept = []

    def keep(y_true, outputs):
        kept.append(y_true[:, 0].astype(int))
        return 0.0

    x, _ = rows()
    y = np.tile(np.arange(90.0)[:, None], 3)
    trainer = dl.Trainer(normed(), loss="mse", metrics=[keep], seed=0)
    swa = dl.StochasticWeightAveraging(1)
    trainer.fit(x, y, epochs=3, validation_split=0.4, callbacks=[swa], verbose=0)
    trained, validated = kept[0], kept[1]
    assert sorted([*trained, *validated]) == list(range(90))
    assert_statistics_of(trainer.model, x[trained])


def test_a_fit_that_stops_early_has_the_mean_so_far():
    x, y = rows()
    swa, seen = dl.StochasticWeightAveraging(1), Weights()
    stopping = dl.EarlyStopping("loss", min_delta=1e9, patience=4, restore_best=False)
    trainer = trainer_of(network())
    fit(trainer, x, y, 50, callbacks=[swa, stopping, seen])
    assert stopping.stopped_epoch == 4
    assert swa.averaged == 4
    np.testing.assert_allclose(trainer.model.flat, np.mean(seen.seen[1:], axis=0), rtol=1e-14)


@pytest.mark.parametrize(
    "rival",
    [
        dl.EarlyStopping("loss"),
        dl.ExponentialMovingAverage(0.9),
        dl.StochasticWeightAveraging(1),
    ],
    ids=lambda c: type(c).__name__,
)
def test_what_else_would_set_the_weights_at_the_end(rival):
    x, y = rows()
    trainer = trainer_of(network(), callbacks=[rival])
    before = trainer.model.flat.copy()
    with pytest.raises(ValueError, match=f"{type(rival).__name__} would set the weights"):
        fit(trainer, x, y, callbacks=[dl.StochasticWeightAveraging(0)])
    np.testing.assert_array_equal(trainer.model.flat, before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": -1}, "start must be an integer and at least 0, not -1"),
        ({"start": 0.5}, "start must be an integer and at least 0, not 0.5"),
        ({"start": 3, "every": 0}, "every must be a positive integer, not 0"),
    ],
)
def test_epochs_that_there_are_not(options, message):
    with pytest.raises(ValueError, match=message):
        dl.StochasticWeightAveraging(**options)


# ---- update_batch_norm


@DTYPES
def test_the_statistics_of_all_rows(dtype):
    x, _ = rows(dtype=dtype)
    model = normed(dtype)
    dl.update_batch_norm(model, x)
    assert_statistics_of(model, x, dtype)
    whole = model.state_dict()
    # A list in parts, of any layout.
    parts = [np.asfortranarray(x[:31]), np.repeat(x[31:32], 2, axis=0)[::2], x[32:]]
    dl.update_batch_norm(model, parts)
    for name, value in model.state_dict().items():
        assert_near(value, whole[name], dtype)


def test_statistics_far_from_0_keep_their_digits():
    rng = np.random.default_rng(0)
    x = 1e8 + rng.normal(size=(1000, 4))
    model = dl.Sequential(dl.BatchNorm1d(4), dtype=F64)
    dl.update_batch_norm(model, np.split(x, 10))
    centered = x - 1e8
    np.testing.assert_allclose(model[0].running_mean - 1e8, centered.mean(0), atol=3e-8)
    np.testing.assert_allclose(model[0].running_var, centered.var(0, ddof=1), rtol=1e-7)


def test_parameters_and_frozen_statistics_stay():
    x, _ = rows()
    model = normed()
    model.freeze("1")
    before = model.state_dict()
    dl.update_batch_norm(model, x)
    changed = {n for n, v in model.state_dict().items() if not np.array_equal(v, before[n])}
    assert changed == {"4.running_mean", "4.running_var"}


def test_an_iterator_will_do_for_one_layer():
    x, _ = rows()
    model = dl.Sequential(dl.Linear(5, 4), dl.BatchNorm1d(4), dtype=F64, seed=0)
    dl.update_batch_norm(model, iter([x[:40], x[40:]]))
    z = x @ model[0].weight.T + model[0].bias
    np.testing.assert_allclose(model[1].running_mean, z.mean(0), rtol=1e-12, atol=1e-14)


X = np.ones((10, 5))


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        (X[:1], ValueError, "inputs must have at least two rows"),
        ([], ValueError, "inputs must have at least two rows"),
        ([X, X[:, :4]], ValueError, r"inputs must have shape \(N, 5\), not \(10, 4\)"),
        (X[0], ValueError, r"inputs must have shape \(N, 5\), not \(5,\)"),
        (X.astype(F32), TypeError, "inputs is float32, the model float64"),
        (
            iter([X]),
            ValueError,
            "an iterator, .* the 2 BatchNorm1d layers: pass an array or a list",
        ),
        (X.tolist(), TypeError, "inputs must be an array"),
    ],
)
def test_inputs_that_do_not_fit_change_nothing(inputs, error, message):
    model = normed()
    before = model.state_dict()
    with pytest.raises(error, match=message):
        dl.update_batch_norm(model, inputs)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
