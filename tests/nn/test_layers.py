"""Layers that behave in another way in training: dropout, batch and layer normalization."""

import copy
import pickle

import numpy as np
import pytest

import dlcore as dl

F64 = np.float64


def rows(n=60, features=5, classes=3, dtype=F64):
    rng = np.random.default_rng(1)
    return rng.standard_normal((n, features)).astype(dtype), rng.integers(0, classes, n)


def gradient_of(model, x, y, loss="cross_entropy"):
    """The gradient of a batch, by one step of SGD with lr 1; the model is as before."""
    state = model.state_dict()
    before = model.flat.copy()
    trainer = dl.Trainer(model, loss=loss, optimizer=dl.SGD(model.parameters(), lr=1.0), seed=0)
    trainer.fit(x, y, epochs=1, batch_size=len(x), shuffle=False, verbose=0)
    gradient = before - model.flat
    model.load_state_dict(state)
    return gradient


def loss_of_batch(model, x, y):
    """The loss in training, whose step is taken back."""
    state = model.state_dict()
    trainer = dl.Trainer(
        model, loss="cross_entropy", optimizer=dl.SGD(model.parameters(), lr=1e-9), seed=0
    )
    loss = trainer.fit(x, y, epochs=1, batch_size=len(x), shuffle=False, verbose=0)["loss"][0]
    model.load_state_dict(state)
    return loss


NORMALIZED = {
    "batch norm": lambda: [dl.Linear(5, 7), dl.BatchNorm1d(7), dl.Tanh(), dl.Linear(7, 3)],
    "batch norm first": lambda: [dl.BatchNorm1d(5), dl.Linear(5, 3)],
    "batch norm last": lambda: [dl.Linear(5, 3), dl.BatchNorm1d(3)],
    "two of them": lambda: [
        dl.Linear(5, 18),
        dl.BatchNorm1d(18),
        dl.BatchNorm1d(18, affine=False),
        dl.GELU(),
        dl.Linear(18, 3),
    ],
    "layer norm": lambda: [dl.Linear(5, 19), dl.LayerNorm(19), dl.SiLU(), dl.Linear(19, 3)],
    "rms norm": lambda: [dl.Linear(5, 19), dl.RMSNorm(19), dl.SiLU(), dl.Linear(19, 3)],
    "layer norm first": lambda: [dl.LayerNorm(5), dl.Linear(5, 3)],
    "layer norm last": lambda: [dl.Linear(5, 3), dl.LayerNorm(3, bias=False)],
    "dropout": lambda: [dl.Linear(5, 8), dl.Dropout(0.4), dl.Tanh(), dl.Linear(8, 3)],
    "all": lambda: [
        dl.Dropout(0.2),
        dl.Linear(5, 9, bias=False),
        dl.BatchNorm1d(9, momentum=None),
        dl.ReLU(),
        dl.LayerNorm(9, elementwise_affine=False),
        dl.Dropout(0.1),
        dl.Linear(9, 3),
    ],
}


@pytest.mark.parametrize("layers", NORMALIZED.values(), ids=NORMALIZED)
def test_gradients_equal_central_differences(layers, isa):
    model = dl.Sequential(*layers(), dtype=F64, seed=0)
    rng = np.random.default_rng(2)
    model.flat += 0.1 * rng.standard_normal(model.flat.size)
    x, y = rows(40)
    gradient = gradient_of(model, x, y)
    start = model.flat.copy()
    for i in range(model.flat.size):
        ends = []
        for sign in (1, -1):
            model.flat[:] = start
            model.flat[i] += sign * 1e-5
            ends.append(loss_of_batch(model, x, y))
        model.flat[:] = start
        assert gradient[i] == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5, abs=1e-7), i


def test_batch_norm_in_training_and_after():
    """PyTorch's running statistics: the variance unbiased, a tenth of each batch."""
    layer = dl.BatchNorm1d(5)
    model = dl.Sequential(layer, dl.Linear(5, 3), dtype=F64, seed=0)
    model.freeze("1")
    x, y = rows(60)
    gradient_free = dl.SGD(model.parameters(), lr=0.0)
    trainer = dl.Trainer(model, loss="cross_entropy", optimizer=gradient_free)
    trainer.fit(x, y, epochs=1, batch_size=30, shuffle=False, verbose=0)
    mean, var = np.zeros(5), np.ones(5)
    for batch in (x[:30], x[30:]):
        mean = 0.9 * mean + 0.1 * batch.mean(0)
        var = 0.9 * var + 0.1 * batch.var(0, ddof=1)
    np.testing.assert_allclose(layer.running_mean, mean, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(layer.running_var, var, rtol=1e-13)
    assert layer.num_batches_tracked == 2
    normal = (x - mean) / np.sqrt(var + 1e-5)
    np.testing.assert_allclose(model(x), normal @ model[1].weight.T + model[1].bias, rtol=1e-10)


def test_batch_norm_averages_all_batches_without_momentum():
    layer = dl.BatchNorm1d(5, momentum=None)
    model = dl.Sequential(layer, dl.Linear(5, 3), dtype=F64, seed=0)
    x, y = rows(60)
    dl.Trainer(model, loss="cross_entropy").fit(
        x, y, epochs=1, batch_size=20, shuffle=False, verbose=0
    )
    np.testing.assert_allclose(layer.running_mean, x.mean(0), rtol=1e-12, atol=1e-14)


def test_a_batch_of_one_row_leaves_the_running_statistics():
    layer = dl.BatchNorm1d(5)
    model = dl.Sequential(layer, dl.Linear(5, 3), seed=0)
    x, y = rows(1, dtype=np.float32)
    dl.Trainer(model, loss="cross_entropy").fit(x, y, epochs=3, verbose=0)
    assert layer.num_batches_tracked == 0
    assert np.isfinite(model.flat).all()
    np.testing.assert_array_equal(layer.running_var, np.ones(5))


def test_a_batch_that_diverges_leaves_the_running_statistics():
    layer = dl.BatchNorm1d(5)
    model = dl.Sequential(layer, dl.Linear(5, 3), seed=0)
    x, y = rows(64, dtype=np.float32)
    x[40, 2] = np.nan
    with pytest.raises(FloatingPointError, match="epoch 1, step 2"):
        dl.Trainer(model, loss="cross_entropy").fit(
            x, y, epochs=1, batch_size=32, shuffle=False, verbose=0
        )
    assert layer.num_batches_tracked == 1
    assert np.isfinite(layer.running_mean).all()
    assert np.isfinite(model.flat).all()


def test_state_has_pytorchs_names_and_travels():
    def model(seed):
        return dl.Sequential(dl.Linear(5, 4), dl.BatchNorm1d(4), dl.LayerNorm(4), seed=seed)

    first, second = model(0), model(1)
    x, y = rows(dtype=np.float32, classes=4)
    dl.Trainer(first, loss="cross_entropy").fit(x, y, epochs=2, verbose=0)
    state = first.state_dict()
    assert list(state) == [
        *("0.weight", "0.bias", "1.weight", "1.bias"),
        *("1.running_mean", "1.running_var", "1.num_batches_tracked", "2.weight", "2.bias"),
    ]
    second.load_state_dict(state)
    np.testing.assert_array_equal(first(x), second(x))
    for other in (copy.deepcopy(first), pickle.loads(pickle.dumps(first))):
        np.testing.assert_array_equal(first(x), other(x))
        dl.Trainer(other, loss="cross_entropy").fit(x, y, epochs=1, verbose=0)
        assert other[1].num_batches_tracked == first[1].num_batches_tracked + 2
    with pytest.raises(ValueError, match=r"1\.running_var has shape"):
        second.load_state_dict(state | {"1.running_var": np.ones(3, np.float32)})


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_dropout_keeps_the_share_and_the_mean(p):
    """L1 loss below its target: each step adds what is kept, 1 / (1 - p) or 0."""
    model = dl.Sequential(dl.Dropout(p), dl.Linear(1000, 1, bias=False), dtype=F64, seed=0)
    model.flat[:] = -1e6  # far below, so that every gradient is -x
    sgd = dl.SGD(model.parameters(), lr=1.0)
    trainer = dl.Trainer(model, loss="l1", optimizer=sgd, seed=0)
    n = 400
    trainer.fit(np.ones((n, 1000)), np.full(n, 1e12), epochs=1, batch_size=1, verbose=0)
    kept = (model.flat + 1e6) * (1 - p) / n  # share of the rows in which a column was kept
    error = 5 * np.sqrt(max(p * (1 - p), 1e-30) / n)
    assert np.abs(kept - (1 - p)).max() <= error + 1e-9
    assert abs(kept.mean() - (1 - p)) <= error / np.sqrt(1000) + 1e-9
    if 0 < p < 1:
        spread = kept.var() / (p * (1 - p) / n)  # of a binomial distribution
        assert 0.8 < spread < 1.2


def test_dropout_is_drawn_by_the_seed_and_anew_each_time():
    def fit(seed):
        model = dl.Sequential(dl.Linear(5, 8), dl.Dropout(), dl.Linear(8, 3), seed=0)
        x, y = rows(dtype=np.float32)
        trainer = dl.Trainer(model, loss="cross_entropy", seed=seed)
        losses = trainer.fit(x, y, epochs=3, shuffle=False, verbose=0)["loss"]
        return losses, model.flat.copy()

    (losses, weights), (same, same_weights), (others, _) = fit(1), fit(1), fit(2)
    assert losses == same
    np.testing.assert_array_equal(weights, same_weights)
    assert losses != others


def test_dropout_infers_as_if_it_were_not_there():
    linear = dl.Sequential(dl.Linear(5, 3), seed=0)
    model = dl.Sequential(dl.Dropout(0.9), dl.Linear(5, 3), seed=0)
    x, _ = rows(dtype=np.float32)
    np.testing.assert_array_equal(model(x), linear(x))


@pytest.mark.parametrize("dtype", [np.float32, F64])
def test_same_bits_for_any_number_of_threads(dtype, isa):
    def fit(threads):
        layers = [dl.Dropout(0.1), dl.Linear(54, 256), dl.BatchNorm1d(256), dl.ReLU()]
        layers += [dl.Linear(256, 128), dl.LayerNorm(128), dl.GELU(), dl.Linear(128, 7)]
        model = dl.Sequential(*layers, dtype=dtype, seed=0)
        x, y = rows(1000, 54, 7, dtype)
        with dl.num_threads(threads):
            dl.Trainer(model, loss="cross_entropy", seed=0).fit(
                x, y, epochs=2, batch_size=256, verbose=0
            )
        return np.concatenate([value.ravel() for value in model.state_dict().values()])

    first = fit(1)
    for threads in (2, 3, 4, 8):
        np.testing.assert_array_equal(fit(threads), first)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: dl.Dropout(1.5), "p must be in"),
        (lambda: dl.BatchNorm1d(0), "positive integer"),
        (lambda: dl.BatchNorm1d(3, momentum=2.0), "momentum must be in"),
        (lambda: dl.LayerNorm(3, eps=-1), "eps must be at least 0"),
        (lambda: dl.Sequential(dl.Linear(3, 4), dl.BatchNorm1d(5)), "takes 5 features"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
