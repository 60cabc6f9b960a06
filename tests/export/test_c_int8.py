"""Headers of integers: nearly as accurate, and without a float."""

import numpy as np
import pytest

import dlcore as dl
from support.c_compiler import Library
from support.exported import make_rows, random_network

quiet = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


class Integers(Library):
    """The functions of a header of int8, with rows of numbers."""

    def quantized(self, x, width):
        return self.rows("quantize", x, width, y_dtype=np.int8)

    def logits(self, x, outputs, header):
        q = self.quantized(x, x.shape[1])
        integers = self.rows("logits", q, outputs, np.int8, np.int32)
        return integers * unit(header)


def unit(header):
    (line,) = [line for line in header.splitlines() if "_LOGIT_SCALE " in line and "define" in line]
    return float(line.split()[-1])


def digits():
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return x.astype(np.float32), y


NETWORKS = {
    "relu": {"hidden_layer_sizes": (64, 64)},
    "tanh": {"hidden_layer_sizes": (32,), "activation": "tanh"},
    "batch norm": {"hidden_layer_sizes": (64, 32), "batch_norm": True, "activation": "silu"},
    "layer norm": {"hidden_layer_sizes": (48, 32), "layer_norm": True, "activation": "gelu"},
}


@quiet
@pytest.mark.parametrize("scaler", ["StandardScaler", "MinMaxScaler"])
@pytest.mark.parametrize("name", NETWORKS)
def test_half_a_point_of_accuracy_is_lost_on_digits_at_most(name, scaler, tmp_path):
    estimators = pytest.importorskip("dlcore.sklearn", exc_type=ImportError)
    from sklearn.pipeline import make_pipeline

    x, y = digits()
    train, test = slice(0, 1000), slice(1000, None)
    network = estimators.MLPClassifier(max_iter=15, random_state=0, **NETWORKS[name])
    pipeline = make_pipeline(getattr(estimators, scaler)(), network).fit(x[train], y[train])
    library = Integers(dl.to_c(pipeline, "net", "int8", x[:200]), tmp_path)
    accuracy = (pipeline.predict(x[test]) == y[test]).mean()
    q = library.quantized(x[test], 64)
    assert (library.classes(q, np.int8) == y[test]).mean() >= accuracy - 0.005
    # The pixels are integers; what is halfway between two of int8 may become either.
    whole = library.rows("quantize_int", x[test], 64, np.int32, np.int8)
    assert np.abs(whole.astype(int) - q).max() <= 1
    assert (whole != q).mean() < 0.05
    assert (library.classes(whole, np.int8) == y[test]).mean() >= accuracy - 0.005


@pytest.mark.parametrize("seed", range(1, 40, 3))
def test_random_networks(seed, tmp_path):
    model, x = random_network(seed)
    header = dl.to_c(model, "net", "int8", x)
    y = Integers(header, tmp_path).logits(x, model.out_features, header)
    expected = model(x)
    error = np.sqrt(((y - expected) ** 2).mean() / ((expected - expected.mean()) ** 2).mean())
    assert error < 0.12


def test_what_is_beyond_the_calibration_saturates(tmp_path):
    model = dl.Sequential(dl.Linear(3, 4), dl.Tanh(), dl.Linear(4, 2), dl.Sigmoid(), seed=0)
    x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    header = dl.to_c(model, "net", "int8", x)
    library = Integers(header, tmp_path)
    far = np.array([[1e30, -1e30, np.inf], [-np.inf, np.nan, 0]], np.float32)
    q = library.quantized(far, 3)
    assert q[0].tolist() == [127, -128, 127]
    assert q[1, 0] == -128
    huge = np.array([[2**31 - 1, -(2**31), 0]])
    assert library.rows("quantize_int", huge, 3, np.int32, np.int8)[0, :2].tolist() == [127, -128]
    y = library.logits(x, 2, header)
    assert np.abs(y - model(x)).max() < 0.03
    assert y.min() >= 0


def test_the_scale_of_the_logits_is_a_power_of_two_that_keeps_their_digits(tmp_path):
    model = dl.Sequential(dl.Linear(3, 4), seed=0)
    model[0].bias[...] = [0, 1e4, -1e4, 1e-4]
    x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    header = dl.to_c(model, "net", "int8", x)
    assert np.frexp(unit(header))[0] == 0.5
    y = Integers(header, tmp_path).logits(x, 4, header)
    assert np.abs(y - model(x)).max(axis=0).max() < 0.02


def test_weights_of_zero_and_constant_inputs(tmp_path):
    model = dl.Sequential(dl.Linear(3, 4), dl.ReLU(), dl.Linear(4, 2), seed=0)
    model.flat[...] = 0
    model[2].bias[...] = [1, -1]
    header = dl.to_c(model, "net", "int8", np.zeros((1, 3)))
    library = Integers(header, tmp_path)
    np.testing.assert_allclose(library.logits(np.ones((2, 3)), 2, header), [[1, -1]] * 2, rtol=1e-6)


@quiet
@pytest.mark.parametrize("loss", ["squared_error", "quantile", "poisson"])
def test_regressors_of_scaled_targets(loss, tmp_path):
    estimators = pytest.importorskip("dlcore.sklearn", exc_type=ImportError)
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.pipeline import make_pipeline

    x, _ = make_rows()
    y = 1000 + 50 * x[:, 0] + x[:, 3]
    rows = np.vstack([x, 2 * x])
    network = estimators.MLPRegressor(
        loss, (16,), quantile=[0.9, 0.1], learning_rate_init=0.01, max_iter=60, random_state=0
    )
    clipped = estimators.MinMaxScaler(clip=True)
    pipeline = make_pipeline(clipped, estimators.StandardScaler(), network)
    if loss == "poisson":
        pipeline.fit(x, y / 500)
        header = dl.to_c(pipeline, "net", "int8", rows)
        assert "net_predict" not in header  # whose exponential is not of integers
        found = np.exp(Integers(header, tmp_path).logits(2 * x, 1, header))
    else:
        scaled = estimators.StandardScaler()
        pipeline = TransformedTargetRegressor(pipeline, transformer=scaled).fit(x, y)
        header = dl.to_c(pipeline, "net", "int8", rows)
        library = Integers(header, tmp_path)
        q = library.quantized(2 * x, 6)
        width = 2 if loss == "quantile" else 1
        found = library.rows("predict", q, width, np.int8, np.int32) * unit(header)
    expected = pipeline.predict(2 * x).reshape(found.shape)
    assert np.abs(found - expected).max() < 0.05 * np.ptp(expected)


@quiet
def test_decisions_of_several_targets(tmp_path):
    estimators = pytest.importorskip("dlcore.sklearn", exc_type=ImportError)
    from sklearn.pipeline import make_pipeline

    x, _ = make_rows(n=300)
    network = estimators.MLPClassifier((16,), max_iter=30, random_state=0)
    pipeline = make_pipeline(estimators.StandardScaler(), network)
    middle = np.median(x, axis=0)
    for y in (x[:, :3] > middle[:3], (x[:, :2] > middle[:2]).astype(int) + 2 * (x[:, 1:3] > 12)):
        pipeline.fit(x, y.astype(int))
        library = Integers(dl.to_c(pipeline, "net", "int8", x), tmp_path)
        places = library.rows("classes", library.quantized(x, 6), y.shape[1], np.int8, np.int32)
        decided = pipeline.predict(x)
        if y.shape[1] == 2:
            names = [[library.class_names(t, int(c)) for t, c in enumerate(row)] for row in places]
            places = np.array(names, int)
        assert (places == decided).mean() > 0.97


def test_integers_are_rounded_and_not_cut(tmp_path):
    model = dl.Sequential(dl.Linear(1, 1), dl.Tanh(), dl.Linear(1, 1), seed=0)
    model.flat[...] = [1, 0, 1, 0]
    x = np.linspace(-0.3, 0.3, 2001, dtype=np.float32)[:, np.newaxis]
    header = dl.to_c(model, "net", "int8", x)
    error = Integers(header, tmp_path).logits(x, 1, header) - model(x)
    step = 0.6 / 255
    assert abs(error.mean()) < 0.1 * step
    assert np.abs(error).max() < 2 * step


@pytest.mark.parametrize("norm", [dl.LayerNorm, dl.RMSNorm])
def test_what_is_added_to_a_variance_counts(norm, tmp_path):
    model = dl.Sequential(norm(8, eps=3.0))
    x = np.random.default_rng(0).normal(size=(100, 8)).astype(np.float32)
    header = dl.to_c(model, "net", "int8", x)
    y = Integers(header, tmp_path).logits(x, 8, header)
    assert np.abs(y - model(x)).max() < 0.03


def test_a_layer_of_too_many_inputs_is_named():
    model = dl.Sequential(dl.Linear(2**15 + 1, 1, bias=False), seed=0)
    with pytest.raises(ValueError, match="Linear layer of 32769 inputs has no export to int8"):
        dl.to_c(model, "net", "int8", np.ones((1, 2**15 + 1)))
