"""Layers of several members at once: what they compute, their gradients, and ensembles that train."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dlcore as dl
from support.models import copies_of, slope


def of_member(model, m, x):
    """Evaluate one member of a network of the layers used here by its definition."""
    arrays = model.state_dict()
    for i, layer in enumerate(model.layers):
        own = lambda name, i=i: arrays[f"{i}.{name}"]
        if isinstance(layer, dl.LinearBatchEnsemble):
            x = (x * own("r")[m]) @ own("weight").T * own("s")[m]
            x = x + own("bias")[m] if layer.has_bias else x
        elif isinstance(layer, dl.LinearEnsemble):
            x = x @ own("weight")[m].T + (own("bias")[m] if layer.has_bias else 0)
        elif isinstance(layer, dl.ScaleEnsemble):
            x = x * own("weight")[m]
        elif isinstance(layer, dl.Linear):
            x = x @ own("weight").T + own("bias")
        elif isinstance(layer, dl.ReLU | dl.Tanh):
            x = {dl.ReLU: dl.relu, dl.Tanh: dl.tanh}[type(layer)](x)
        elif isinstance(layer, dl.LayerNorm):
            x = dl.layer_norm(x, own("weight"), own("bias"))
        elif isinstance(layer, dl.Residual):
            (inner,) = layer._children.values()
            x = x + x @ own("0.weight").T + own("0.bias")
            assert isinstance(inner, dl.Linear)
    return x


def of_all(model, k, x):
    """The outputs of all members, of shape (rows, members, width)."""
    return np.stack([of_member(model, m, x) for m in range(k)], axis=1)


@st.composite
def ensembles(draw):
    k = draw(st.integers(2, 9))
    width = inputs = draw(st.integers(1, 12))
    layers = []
    before = draw(st.booleans())
    if before:  # what all members share, before they are apart
        layers += [dl.Linear(width, width + 1), dl.ReLU()]
        width += 1
    kinds = draw(st.lists(st.sampled_from(["batch", "own", "scale", "shared"]), max_size=3))
    for kind in [draw(st.sampled_from(["batch", "own", "scale"])), *kinds]:
        out = draw(st.integers(1, 20))
        bias = draw(st.booleans())
        if kind == "batch":
            layers.append(dl.LinearBatchEnsemble(width, out, k, bias, scaling_init="normal"))
        elif kind == "own":
            layers.append(dl.LinearEnsemble(width, out, k, bias))
        elif kind == "scale":
            layers.append(dl.ScaleEnsemble(k, width, init="normal"))
            out = width
        else:
            layers += [dl.Linear(width, out), dl.LayerNorm(out), dl.Residual(dl.Linear(out, out))]
        width = out
        layers += draw(st.sampled_from([(), (dl.ReLU(),), (dl.Tanh(),)]))
    model = dl.Sequential(*layers, dtype=np.float64, seed=draw(st.integers(0, 9)))
    model.flat[...] += 0.3 * np.random.default_rng(0).normal(size=model.flat.shape)
    return model, k, inputs, width


@settings(max_examples=40, deadline=None)
@given(ensembles(), st.sampled_from([0, 1, 2, 7, 40, 150]))
def test_any_ensemble_computes_its_members(ensemble, n):
    model, k, inputs, width = ensemble
    x = np.random.default_rng(1).normal(size=(n, inputs))
    expected = of_all(model, k, x)
    assert model.out_features == k * width
    close = {"rtol": 1e-9, "atol": 1e-10}
    np.testing.assert_allclose(model(x).reshape(n, k, width), expected, **close)
    np.testing.assert_allclose(model.forward(x).reshape(n, k, width), expected, **close)
    np.testing.assert_array_equal(model.snapshot()(x), model(x))
    if n > 1:
        np.testing.assert_array_equal(model(x[:1]), model(x)[:1])


@settings(max_examples=30, deadline=None)
@given(ensembles(), st.sampled_from([1, 3, 50]))
def test_any_ensemble_goes_back_as_differences_say(ensemble, n):
    model, k, inputs, width = ensemble
    rng = np.random.default_rng(2)
    x, dy = rng.normal(size=(n, inputs)), rng.normal(size=(n * k, width))
    model.forward(x)
    dx = model.backward(dy)
    grads = [g.copy() for g in model.grads()]
    value = lambda: float((of_all(model, k, x).reshape(n * k, width) * dy).sum())
    for array, grad in zip([*model.parameters(), x], [*grads, dx], strict=True):
        direction = rng.normal(size=array.shape)
        exact = float((grad * direction).sum())
        assert slope(value, array, direction) == pytest.approx(exact, rel=2e-4, abs=2e-3)


def tabm(of, width=3, k=4, dtype=np.float64, dropout=0.0):
    return dl.Sequential(
        dl.LinearBatchEnsemble(6, 32, k, scaling_init="random-signs"),
        dl.ReLU(),
        dl.Dropout(dropout),
        dl.LinearBatchEnsemble(32, 32, k),
        dl.ReLU(),
        dl.LinearEnsemble(32, width, k),
        dl.EnsembleMean(of),
        dtype=dtype,
        seed=0,
    )


def rows(n, dtype=np.float64):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(n, 6)).astype(dtype)
    return x, (x[:, 0] * x[:, 1] > 0).astype(int) + (x[:, 2] > 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_members_predict_by_their_mean(dtype):
    x, _ = rows(50, dtype)
    raw = of_all(tabm("outputs", dtype=dtype), 4, x)
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    of = {
        "outputs": raw.mean(1),
        "softmax": np.log(dl.softmax(raw, 2).mean(1)),
        "sigmoid": np.log(dl.sigmoid(raw).mean(1) / dl.sigmoid(-raw).mean(1)),
    }
    for name, expected in of.items():
        got = tabm(name, dtype=dtype)(x)
        np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


def test_means_of_extreme_outputs_are_finite():
    model = tabm("softmax", k=2)
    state = model.state_dict()
    for name in state:
        state[name][...] = 0
    state["5.bias"][...] = [[0, 900, -900], [0, -1e300, 5]]
    model.load_state_dict(state)
    expected = np.log(
        [0.5 * np.exp(0) * (1 / (1 + np.exp(5))), 0.5, 0.5 * np.exp(5) / (1 + np.exp(5))]
    )
    np.testing.assert_allclose(model(np.zeros((1, 6)))[0], expected, rtol=1e-12)
    model = tabm("sigmoid", k=2)
    state["5.bias"][...] = [[40, 800, -800], [40, 800, -800]]
    model.load_state_dict(state)
    got = model(np.zeros((1, 6)))[0]
    assert got[0] == pytest.approx(40)
    assert got[1] == np.inf
    assert got[2] == -np.inf


@pytest.mark.parametrize("kind", [dl.SGD, dl.AdamW])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"accumulate": 3},
        {"clip_grad_norm": 0.1},
        {"sample_weight": True},
        {"class_weight": {0: 2, 1: 1, 2: 5}},
    ],
)
def test_a_fit_minimizes_the_mean_of_the_losses(kind, options):
    """One step by hand, with the loss of each member, is one of the trainer."""
    x, y = rows(30)
    weight = np.ones(30)
    fit = {n: v for n, v in options.items() if n == "class_weight"}
    if "sample_weight" in options:
        weight = np.random.default_rng(4).uniform(0.5, 2, 30)
        fit["sample_weight"] = weight
    if "class_weight" in options:
        weight = np.array([2, 1, 5.0])[y]
    trained = {n: v for n, v in options.items() if n in ("accumulate", "clip_grad_norm")}
    model, other = tabm("softmax"), tabm("softmax")
    trainer = dl.Trainer(
        model, loss="cross_entropy", optimizer=kind(model.parameters(), lr=0.1), **trained
    )
    history = trainer.fit(
        x,
        y,
        epochs=1,
        batch_size=10 if "accumulate" in trained else 30,
        shuffle=False,
        verbose=0,
        **fit,
    )
    losses, grad = dl.cross_entropy_and_grad(other.forward(x), np.repeat(y, 4), reduction="sum")
    losses = dl.cross_entropy(other.forward(x), np.repeat(y, 4), reduction="none")
    share = np.repeat(weight, 4) / weight.sum() / 4
    assert history["loss"][0] == pytest.approx(float(losses @ share), rel=1e-9)
    other.backward(grad * share[:, None])
    if "clip_grad_norm" in options:
        dl.clip_grad_norm(other.grads(), 0.1)
    kind(other.parameters(), lr=0.1).step(other.grads())
    np.testing.assert_allclose(model.flat, other.flat, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_threads_change_no_bit(dtype):
    x, y = rows(1500, dtype)

    def trained(threads):
        model = tabm("softmax", dtype=dtype, dropout=0.2)
        with dl.num_threads(threads):
            dl.Trainer(model, loss="cross_entropy", metrics=["accuracy"], seed=0).fit(
                x, y, epochs=2, batch_size=100, validation_split=0.2, verbose=0
            )
            return np.concatenate([model.flat, model(x).ravel()])

    np.testing.assert_array_equal(trained(1), trained(3))


def test_members_learn_together():
    x, y = rows(1200)
    model = tabm("softmax", dtype=np.float64)
    optimizer = dl.AdamW(model.parameters(), lr=5e-3)
    trainer = dl.Trainer(
        model, loss="cross_entropy", optimizer=optimizer, metrics=["accuracy"], seed=0
    )
    history = trainer.fit(x, y, epochs=25, validation_split=0.25, verbose=0)
    assert history["val_accuracy"][-1] > 0.9
    raw = of_all(model, 4, x)
    accuracies = [(raw[:, m].argmax(1) == y).mean() for m in range(4)]
    assert len(set(accuracies)) > 1
    assert trainer.evaluate(x, y)["accuracy"] == (model(x).argmax(1) == y).mean()


def test_metrics_of_training_are_those_of_the_mean():
    x, y = rows(40)
    model = tabm("softmax")
    before = (model(x).argmax(1) == y).mean()
    trainer = dl.Trainer(model, loss="cross_entropy", metrics=["accuracy"])
    history = trainer.fit(x, y, epochs=1, batch_size=40, verbose=0)
    assert history["accuracy"][0] == before


class HalfSquares(dl.Loss):
    """A loss of the user's own: the mean of half the squares."""

    def value_and_grad(self, outputs, y, reduction="mean"):
        y = y.reshape(outputs.shape)
        values = 0.5 * (outputs - y) ** 2
        if reduction == "none":
            return values, outputs - y
        return values.mean(), (outputs - y) / values.size


def test_a_loss_of_the_users_own_sees_every_member():
    x, y = rows(60)
    target = (y - 1.0)[:, None]
    models = [tabm("outputs", width=1) for _ in range(2)]
    for model, loss in zip(models, [HalfSquares(), "mse"], strict=True):
        scale = 1 if loss == "mse" else 2
        optimizer = dl.SGD(model.parameters(), lr=0.05 * scale)
        dl.Trainer(model, loss=loss, optimizer=optimizer, seed=0).fit(
            x, target, epochs=3, batch_size=16, verbose=0
        )
    np.testing.assert_allclose(models[0].flat, models[1].flat, rtol=1e-7, atol=1e-10)


def test_copies_pickles_and_files_are_the_same_ensemble(tmp_path):
    x, y = rows(80)
    model = tabm("softmax", dropout=0.1)
    dl.Trainer(model, loss="cross_entropy").fit(x, y, epochs=2, verbose=0)
    for other in copies_of(model, tmp_path):
        assert repr(other) == repr(model)
        np.testing.assert_array_equal(other(x), model(x))


def test_initial_values():
    model = dl.Sequential(
        dl.LinearBatchEnsemble(6, 32, 5, scaling_init="random-signs", chunks=[2, 3, 1]), seed=1
    )
    layer = model[0]
    assert set(np.unique(layer.r)) == {-1.0, 1.0}
    assert (layer.r[:, 0] == layer.r[:, 1]).all()
    assert (layer.r[:, 2:5] == layer.r[:, 2:3]).all()
    assert (layer.s == 1).all()
    assert (layer.bias == layer.bias[0]).all()
    assert np.abs(layer.weight).max() <= 1 / np.sqrt(6)
    layer.r = np.zeros((5, 6), np.float32)
    assert not layer.r.any()
    with pytest.raises(ValueError, match="must have shape"):
        layer.s = np.zeros((5, 6), np.float32)
    with pytest.raises(AttributeError, match="no attribute 'q'"):
        _ = layer.q


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: dl.Sequential(dl.Linear(2, 2), dl.EnsembleMean()),
            "needs layers of several members",
        ),
        (
            lambda: dl.Sequential(dl.LinearEnsemble(2, 2, 3), dl.LinearEnsemble(2, 2, 4)),
            "is of 4 members, but comes after 3",
        ),
        (
            lambda: dl.Sequential(dl.Parallel(dl.LinearEnsemble(2, 2, 3), dl.Linear(2, 2))),
            r"branches are of \[3, 1\] members",
        ),
        (lambda: dl.LinearBatchEnsemble(2, 2, 3, scaling_init="zeros"), "scaling_init must be"),
        (lambda: dl.LinearBatchEnsemble(4, 2, 3, chunks=[1, 2]), "must add up to 4, not 3"),
        (lambda: dl.EnsembleMean("median"), "of must be"),
        (lambda: dl.LinearEnsemble(4, 2, 0), "k must be a positive integer"),
    ],
)
def test_what_does_not_fit_is_told(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_an_ensemble_is_trained_with_its_mean():
    x, y = rows(10)
    model = dl.Sequential(dl.LinearEnsemble(6, 3, 2), dtype=np.float64)
    with pytest.raises(ValueError, match="needs an EnsembleMean"):
        dl.Trainer(model, loss="cross_entropy").fit(x, y, epochs=1, verbose=0)
