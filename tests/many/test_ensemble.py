"""Means of probabilities and of outputs, what is measured of them, and which members are kept."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dlcore as dl

F64 = np.float64


def model_of(i, out=3, dtype=F64):
    return dl.Sequential(dl.Linear(4, 8), dl.Tanh(), dl.Linear(8, out), dtype=dtype, seed=i)


def rows(n=50, dtype=F64):
    rng = np.random.default_rng(1)
    return rng.normal(size=(n, 4)).astype(dtype), rng.integers(0, 3, n)


def plain_softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


@pytest.mark.parametrize(("dtype", "close"), [(np.float32, 1e-6), (F64, 1e-14)])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_means_are_those_of_the_definition(dtype, close, count):
    models = [model_of(i, dtype=dtype) for i in range(count)]
    x, _ = rows(dtype=dtype)
    outputs = [model(x).astype(F64) for model in models]
    of_classes = dl.Ensemble(models, of="softmax")
    mean = np.mean([plain_softmax(z) for z in outputs], axis=0)
    assert of_classes(x).dtype == dtype
    np.testing.assert_allclose(of_classes.predict_proba(x), mean, rtol=0, atol=close)
    np.testing.assert_allclose(of_classes(x), np.log(mean), rtol=0, atol=20 * close)
    of_labels = dl.Ensemble(models, of="sigmoid")
    mean = np.mean([1 / (1 + np.exp(-z)) for z in outputs], axis=0)
    np.testing.assert_allclose(of_labels.predict_proba(x), mean, rtol=0, atol=close)
    of_values = dl.Ensemble(models, of="outputs")
    np.testing.assert_allclose(of_values(x), np.mean(outputs, axis=0), rtol=0, atol=close)
    np.testing.assert_array_equal(of_values.predict(x, batch_size=7), of_values(x))
    if count == 1:
        np.testing.assert_array_equal(of_values(x), models[0](x))


def test_it_is_what_an_ensemble_mean_computes():
    """The layer for members that share weights, with members that share none."""
    k, x = 4, rows()[0]
    together = dl.Sequential(
        dl.LinearEnsemble(4, 3, k=k), dl.EnsembleMean("softmax"), dtype=F64, seed=0
    )
    weight, bias = (together.state_dict()[f"0.{name}"] for name in ("weight", "bias"))
    apart = []
    for i in range(k):
        model = dl.Sequential(dl.Linear(4, 3), dtype=F64)
        own = weight[i] if weight[i].shape == (3, 4) else weight[i].T
        model.load_state_dict({"0.weight": own.copy(), "0.bias": bias[i].copy()})
        apart.append(model)
    np.testing.assert_allclose(together(x), dl.Ensemble(apart, of="softmax")(x), atol=1e-13)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-1e5, 1e5), min_size=4, max_size=4), st.sampled_from([np.float32, F64]))
def test_extreme_logits_stay_finite_and_in_order(biases, dtype):
    """Probabilities that are 0 in floating point have finite logarithms."""
    models = []
    for bias in (biases[:2], biases[2:]):
        model = dl.Sequential(dl.Linear(1, 2), dtype=dtype)
        model.load_state_dict(
            {"0.weight": np.zeros((2, 1), dtype), "0.bias": np.array(bias, dtype)}
        )
        models.append(model)
    x = np.zeros((1, 1), dtype)
    for of in ("softmax", "sigmoid"):
        ensemble = dl.Ensemble(models, of=of)
        outputs, proba = ensemble(x), ensemble.predict_proba(x)
        assert np.isfinite(outputs).all()
        function = plain_softmax if of == "softmax" else lambda z: 1 / (1 + np.exp(-z))
        with np.errstate(over="ignore"):
            mean = np.mean([function(m(x).astype(F64)) for m in models], axis=0)
        np.testing.assert_allclose(proba, mean, atol=1e-6)


def test_nan_of_one_member_is_nan_of_all_and_no_row_is_no_output():
    models = [model_of(i) for i in range(3)]
    models[1].layers[0].weight[...] = np.nan
    for of in ("softmax", "sigmoid", "outputs"):
        ensemble = dl.Ensemble(models, of=of)
        assert np.isnan(ensemble(rows()[0])).all()
        assert ensemble(np.empty((0, 4))).shape == (0, 3)
        assert ensemble.predict(np.empty((0, 4))).shape == (0, 3)


@pytest.mark.parametrize(
    ("loss", "of", "y"),
    [
        ("cross_entropy", "softmax", rows()[1]),
        ("bce_with_logits", "sigmoid", (rows()[0][:, :3] > 0).astype(F64)),
        ("mse", "outputs", rows()[0][:, :3].copy()),
        (dl.HuberLoss(0.5), "outputs", rows()[0][:, :3].copy()),
    ],
)
def test_loss_and_metrics_are_of_what_the_members_predict_together(loss, of, y):
    x = rows()[0]
    trainers = [dl.Trainer(model_of(i), loss=loss, seed=i) for i in range(3)]
    ensemble = dl.Ensemble(trainers)
    assert ensemble.of == of
    assert [m is t.model for m, t in zip(ensemble, trainers, strict=True)] == [True] * 3
    weight = np.arange(50) % 3.0
    values = ensemble.evaluate(x, y, weight, metrics=["mae" if of == "outputs" else "accuracy"])
    means = trainers[0].loss.means(ensemble(x), y, weight)[0]
    np.testing.assert_allclose(values["loss"], means.sum(), rtol=1e-12)
    assert len(values) == 2
    if of == "softmax":
        right = ensemble(x).argmax(1) == y
        np.testing.assert_allclose(values["accuracy"], weight @ right / weight.sum())


def loss_of(models, x, y, loss="cross_entropy"):
    return dl.Ensemble(models, loss=loss).evaluate(x, y)["loss"]


def test_pruning_is_greedy_or_by_the_single_losses():
    x, y = rows(80)
    models = [model_of(i) for i in range(7)]
    ensemble = dl.Ensemble(models, of="softmax")
    best = ensemble.prune(x, y, keep=3, method="best")
    losses = [loss_of([model], x, y) for model in models]
    assert best.indices == np.argsort(losses, kind="stable")[:3].tolist()
    greedy = ensemble.prune(x, y, keep=4)
    chosen = []
    for _ in range(4):
        tried = {
            i: loss_of([models[j] for j in [*chosen, i]], x, y) for i in range(7) if i not in chosen
        }
        chosen.append(min(tried, key=tried.get))
    assert greedy.indices == chosen
    assert [m is models[i] for m, i in zip(greedy, chosen, strict=True)] == [True] * 4
    assert (greedy.of, len(ensemble)) == ("softmax", 7)
    until = ensemble.prune(x, y, keep=None)
    steps = [loss_of([models[i] for i in until.indices[: n + 1]], x, y) for n in range(len(until))]
    assert (np.diff(steps) < 0).all()
    assert len(ensemble.prune(x, y, keep=99)) == 7
    assert ensemble.prune(x, y, keep=1).indices == best.indices[:1]


def test_pruning_leaves_out_what_is_not_finite_and_weighs_rows():
    x, y = rows()
    models = [model_of(i) for i in range(3)]
    models[0].layers[0].weight[...] = np.nan
    ensemble = dl.Ensemble(models, of="softmax")
    assert ensemble.prune(x, y, keep=3).indices[-1] == 0
    weight = (y == 1).astype(F64)
    some = ensemble[1:].prune(x, y, weight, keep=1)
    of_one = [loss_of([model], x[y == 1], y[y == 1]) for model in models[1:]]
    assert some.indices == [int(np.argmin(of_one))]


def test_it_is_a_sequence_of_models():
    models = [model_of(i) for i in range(4)]
    ensemble = dl.Ensemble(models, of="outputs")
    assert (len(ensemble), ensemble[1]) == (4, models[1])
    assert list(ensemble[1:3]) == models[1:3]
    assert (ensemble.dtype, ensemble.in_features, ensemble.out_features) == (F64, 4, 3)
    assert "4 models" in repr(ensemble)
    with pytest.raises(ValueError, match="of='outputs' are values"):
        ensemble.predict_proba(rows()[0])


def test_what_does_not_fit_is_told():
    models = [model_of(i) for i in range(2)]
    with pytest.raises(ValueError, match="there is no model"):
        dl.Ensemble([], of="softmax")
    with pytest.raises(ValueError, match="needs of='softmax'"):
        dl.Ensemble(models)
    with pytest.raises(ValueError, match="of must be"):
        dl.Ensemble(models, of="mean")
    with pytest.raises(TypeError, match=r"models\[1\] must be a Sequential"):
        dl.Ensemble([models[0], "model"], of="softmax")
    with pytest.raises(ValueError, match=r"models\[1\] has out_features 2, models\[0\] has 3"):
        dl.Ensemble([models[0], model_of(1, out=2)], of="softmax")
    with pytest.raises(ValueError, match=r"models\[1\] has dtype float32"):
        dl.Ensemble([models[0], model_of(1, dtype=np.float32)], of="softmax")
    loss = dl.MultiTargetLoss(["mse", "mse"], [1, 2])
    with pytest.raises(ValueError, match="averages one target"):
        dl.Ensemble(models, loss=loss)
    ensemble = dl.Ensemble(models, of="softmax")
    x, y = rows()
    with pytest.raises(ValueError, match="keep must be"):
        ensemble.prune(x, y, keep=0)
    with pytest.raises(ValueError, match="method must be"):
        ensemble.prune(x, y, method="worst")
    with pytest.raises(ValueError, match="can tell where to stop"):
        ensemble.prune(x, y, keep=None, method="best")
    with pytest.raises(IndexError):
        ensemble.prune(x, y + 3)


@pytest.mark.parametrize("loss", [None, "mse", dl.HuberLoss(0.5)])
def test_files_hold_all_of_it(loss, tmp_path):
    models = [model_of(i) for i in range(3)]
    models[1].freeze("0")
    ensemble = dl.Ensemble(models, of="softmax" if loss is None else "outputs", loss=loss)
    x, y = rows()
    targets = y if loss is None else x[:, :3].copy()
    ensemble = ensemble.prune(x, targets, keep=2)
    dl.save(ensemble, tmp_path / "ensemble", metadata={"k": 2})
    read = dl.load(tmp_path / "ensemble")
    assert (read.of, read.indices, len(read)) == (ensemble.of, ensemble.indices, 2)
    assert repr(read.loss) == repr(ensemble.loss)
    np.testing.assert_array_equal(read(x), ensemble(x))
    assert read.evaluate(x, targets) == ensemble.evaluate(x, targets)
    assert [model.frozen for model in read] == [model.frozen for model in ensemble]
    assert dl.load_metadata(tmp_path / "ensemble") == {"k": 2}


def test_an_own_loss_has_no_form_in_a_file(tmp_path):
    class Own(dl.CrossEntropyLoss):
        pass

    ensemble = dl.Ensemble([model_of(0)], loss=Own())
    with pytest.raises(TypeError, match="of a class of your own, has no form in a file"):
        dl.save(ensemble, tmp_path / "ensemble")
    assert not list(tmp_path.iterdir())
