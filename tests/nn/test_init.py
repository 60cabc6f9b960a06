"""Initial weights: their distribution, orthogonality, unit variance, and which ones are set."""

import math

import numpy as np
import pytest

import dlcore as dl
from dlcore import reference
from dlcore.nn import _initialization as init
from dlcore.nn._initialization import initialize

SHAPE = (600, 400)  # out, in
ROOT2 = math.sqrt(2)


# ---- arrays

# The bound of uniform weights and the standard deviation of normal ones, worked out for SHAPE.
UNIFORM = [
    (init.kaiming_uniform, {}, math.sqrt(6 / 400)),
    (init.kaiming_uniform, {"mode": "fan_out"}, math.sqrt(6 / 600)),
    (init.kaiming_uniform, {"gain": 5 / 3}, 5 / 3 * math.sqrt(3 / 400)),
    (init.xavier_uniform, {}, math.sqrt(6 / 1000)),
    (init.xavier_uniform, {"gain": 3.0}, 3 * math.sqrt(6 / 1000)),
]
NORMAL = [
    (init.kaiming_normal, {}, math.sqrt(2 / 400)),
    (init.kaiming_normal, {"mode": "fan_out"}, math.sqrt(2 / 600)),
    (init.kaiming_normal, {"gain": 1.0}, 1 / 20),
    (init.xavier_normal, {}, math.sqrt(2 / 1000)),
    (init.xavier_normal, {"gain": 0.5}, math.sqrt(0.5 / 1000)),
    (init.lecun_normal, {}, 1 / 20),
]


@pytest.mark.parametrize(("draw", "options", "bound"), UNIFORM)
def test_uniform_weights_fill_their_range_evenly(draw, options, bound):
    w = draw(SHAPE, 1, **options)
    assert (w.shape, w.dtype) == (SHAPE, np.float64)
    assert -bound <= w.min() < -0.9999 * bound
    assert 0.9999 * bound < w.max() <= bound
    counts = np.histogram(w, 10, (-bound, bound))[0]
    assert abs(counts - w.size / 10).max() < 5 * math.sqrt(w.size * 0.1 * 0.9)


@pytest.mark.parametrize(("draw", "options", "std"), NORMAL)
def test_normal_weights_have_their_spread(draw, options, std):
    w = draw(SHAPE, 2, **options)
    assert (w.shape, w.dtype) == (SHAPE, np.float64)
    error = 5 * std / math.sqrt(2 * w.size)  # five standard errors of a standard deviation
    assert w.std() == pytest.approx(std, abs=error)
    assert abs(w.mean()) < 5 * std / math.sqrt(w.size)
    # 0.27 % of a normal distribution, but nothing of a uniform or a truncated one
    assert np.mean(abs(w) > 3 * std) == pytest.approx(0.0027, abs=0.0006)


@pytest.mark.parametrize("shape", [(50, 50), (80, 30), (30, 80), (1, 7), (7, 1)])
@pytest.mark.parametrize("gain", [1.0, ROOT2])
def test_orthogonal_rows_or_columns(shape, gain):
    w = init.orthogonal(shape, 3, gain=gain)
    assert w.shape == shape
    small = w @ w.T if shape[0] <= shape[1] else w.T @ w
    np.testing.assert_allclose(small, gain**2 * np.eye(min(shape)), rtol=0, atol=1e-12)


def test_orthogonal_matrices_are_drawn_evenly():
    """Without a choice of signs, the diagonal of Q would mostly be negative."""
    rng = np.random.default_rng(4)
    diagonals = np.array([np.diag(init.orthogonal((3, 3), rng)) for _ in range(2000)])
    assert abs(diagonals.mean(0)).max() < 5 / math.sqrt(3 * 2000)  # an element has variance 1/3


@pytest.mark.parametrize("draw", [row[0] for row in UNIFORM[::3] + NORMAL[::3]] + [init.orthogonal])
def test_the_seed_or_generator_draws_the_arrays(draw):
    np.testing.assert_array_equal(draw((4, 3), 5), draw((4, 3), np.random.default_rng(5)))
    assert not np.array_equal(draw((4, 3), 5), draw((4, 3), 6))
    rng = np.random.default_rng(5)
    assert not np.array_equal(draw((4, 3), rng), draw((4, 3), rng))


@pytest.mark.parametrize("shape", [(3,), (3, 4, 5), (0, 3), (3, -1), (2.5, 3)])
@pytest.mark.parametrize("draw", [init.kaiming_normal, init.xavier_uniform, init.orthogonal])
def test_wrong_shapes(draw, shape):
    with pytest.raises(ValueError, match="shape must be two positive integers"):
        draw(shape)


# ---- gains


@pytest.mark.parametrize(
    ("nonlinearity", "gain"),
    [
        ("linear", 1),
        ("sigmoid", 1),
        ("softplus", 1),
        ("tanh", 5 / 3),
        ("relu", ROOT2),
        ("gelu", ROOT2),
        ("silu", ROOT2),
        ("elu", ROOT2),
        ("leaky_relu", 1.4141428569978354),
        ("selu", 0.75),
        (dl.Tanh(), 5 / 3),
        (dl.LeakyReLU(0.2), 1.3867504905630728),
    ],
)
def test_gains_are_those_of_pytorch(nonlinearity, gain):
    assert init.calculate_gain(nonlinearity) == pytest.approx(gain, rel=1e-15)


def test_leaky_relu_takes_a_slope():
    assert init.calculate_gain("leaky_relu", 1.0) == 1


def test_unknown_nonlinearity():
    with pytest.raises(ValueError, match=r"must be one of linear, .*leaky_relu.*not 'relu6'"):
        init.calculate_gain("relu6")


# ---- of a model


def network(dtype=np.float64, seed=0):
    return dl.Sequential(
        dl.Linear(6, 8),
        dl.BatchNorm1d(8),
        dl.LeakyReLU(0.2),
        dl.Linear(8, 5, bias=False),
        dl.Tanh(),
        dl.Dropout(0.5),
        dl.Linear(5, 3),
        dtype=dtype,
        seed=seed,
    )


def expected(draw, gains, **options):
    """Weights of the layers of `network`, drawn one after the other."""
    rng = np.random.default_rng(7)
    shapes = [(8, 6), (5, 8), (3, 5)]
    return [draw(s, rng, gain=g, **options) for s, g in zip(shapes, gains, strict=True)]


OWN = (1.3867504905630728, 5 / 3, 1.0)  # LeakyReLU(0.2), Tanh, nothing


@pytest.mark.parametrize(
    ("method", "options", "weights"),
    [
        ("kaiming_uniform", {}, expected(init.kaiming_uniform, OWN)),
        ("kaiming_normal", {}, expected(init.kaiming_normal, OWN)),
        ("xavier_uniform", {}, expected(init.xavier_uniform, OWN)),
        ("xavier_normal", {}, expected(init.xavier_normal, OWN)),
        ("orthogonal", {}, expected(init.orthogonal, OWN)),
        ("lecun_normal", {}, expected(init.kaiming_normal, (1, 1, 1))),
        ("xavier_normal", {"gain": 1}, expected(init.xavier_normal, (1, 1, 1))),
        ("orthogonal", {"nonlinearity": "relu"}, expected(init.orthogonal, (ROOT2,) * 3)),
        ("orthogonal", {"nonlinearity": dl.Tanh()}, expected(init.orthogonal, (5 / 3,) * 3)),
        (
            "kaiming_normal",
            {"mode": "fan_out"},
            expected(init.kaiming_normal, OWN, mode="fan_out"),
        ),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_linear_layer_is_set(method, options, weights, dtype):
    model = network(dtype)
    model[1].weight[...] = 2
    before = model.state_dict()
    assert initialize(model, method, seed=7, **options) is None
    for name, weight in zip(("0.weight", "3.weight", "6.weight"), weights, strict=True):
        np.testing.assert_array_equal(model.state_dict()[name], weight.astype(dtype))
    assert not model[0].bias.any()
    assert not model[6].bias.any()
    for name in before:
        if name.startswith("1."):
            np.testing.assert_array_equal(model.state_dict()[name], before[name])


def test_the_outputs_follow_the_new_weights():
    model, x = dl.Sequential(dl.Linear(6, 2)), np.ones((3, 6), np.float32)
    model(x)
    initialize(model, "zeros")
    assert not model(x).any()


def test_default_is_that_of_a_new_model():
    model = network(seed=1)
    initialize(model, "default", seed=2)
    np.testing.assert_array_equal(model.flat, network(seed=2).flat)


@pytest.mark.parametrize("method", ["default", "orthogonal", "lsuv"])
def test_frozen_parameters_stay(method):
    options = {"x": np.random.default_rng(0).normal(size=(50, 6))} if method == "lsuv" else {}
    model, other = network(), network()
    model.freeze("0")
    model.freeze("6.bias")
    before = model.state_dict()
    initialize(model, method, seed=1, **options)
    initialize(other, method, seed=1, **options)
    for name in ("0.weight", "0.bias", "6.bias"):
        np.testing.assert_array_equal(model.state_dict()[name], before[name])
    for i in (3, 6):  # drawn as without frozen ones; the scale depends on the layers before
        ratio = model[i].weight / other[i].weight
        np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-12)
        assert method == "lsuv" or ratio[0, 0] == 1
        assert not np.isclose(model[i].weight, before[f"{i}.weight"]).any()


def test_an_activation_of_the_next_layer_is_not_taken():
    model = dl.Sequential(dl.Linear(4, 4), dl.Linear(4, 4), dl.ReLU())
    initialize(model, "orthogonal", seed=0)
    assert np.linalg.norm(model[0].weight[0]) == pytest.approx(1, rel=1e-6)
    assert np.linalg.norm(model[1].weight[0]) == pytest.approx(ROOT2, rel=1e-6)


def test_kaiming_keeps_the_spread_through_many_layers_and_default_does_not():
    layers = [layer for _ in range(20) for layer in (dl.Linear(100, 100, bias=False), dl.ReLU())]
    model = dl.Sequential(*layers, seed=0)
    x = np.random.default_rng(1).normal(size=(200, 100)).astype(np.float32)
    default = np.square(model(x)).mean()
    assert 0.1 < default * 6**20 < 10  # a layer divides by 6: weights of variance 1 / (3 fan_in)
    initialize(model, "kaiming_uniform", seed=0)
    assert 0.3 < np.square(model(x)).mean() < 3


# ---- layer-sequential unit variance


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-6), (np.float64, 1e-13)])
def test_lsuv_gives_every_layer_unit_variance(dtype, tolerance):
    model = network(dtype)
    x = np.random.default_rng(3).normal(2, 5, size=(300, 6)).astype(dtype)
    before = x.copy()
    initialize(model, "lsuv", seed=0, x=x)
    np.testing.assert_array_equal(x, before)
    w = {i: model[i].weight.astype(np.float64) for i in (0, 3, 6)}
    first = x.astype(np.float64) @ w[0].T
    assert first.var() == pytest.approx(1, rel=tolerance)
    second = reference.leaky_relu(first / np.sqrt(1 + 1e-5), 0.2) @ w[3].T
    assert second.var() == pytest.approx(1, rel=10 * tolerance)
    third = np.tanh(second) @ w[6].T
    assert third.var() == pytest.approx(1, rel=10 * tolerance)
    assert not model[0].bias.any()


def test_lsuv_weights_are_orthogonal_but_for_a_factor():
    model = network()
    initialize(model, "lsuv", seed=0, x=np.random.default_rng(3).normal(size=(30, 6)))
    w = model[3].weight
    gram = w @ w.T
    np.testing.assert_allclose(gram, gram[0, 0] * np.eye(5), rtol=0, atol=1e-12)
    again = network(seed=5)
    initialize(again, "lsuv", seed=0, x=np.random.default_rng(3).normal(size=(30, 6)))
    np.testing.assert_array_equal(again.flat, model.flat)


def test_lsuv_starts_from_what_frozen_layers_give():
    model, x = network(), np.random.default_rng(3).normal(size=(300, 6))
    model.freeze("0")
    model[0].weight[...] *= 10
    initialize(model, "lsuv", seed=0, x=x)
    hidden = (x @ model[0].weight.T + model[0].bias) / np.sqrt(1 + 1e-5)
    outputs = reference.leaky_relu(hidden, 0.2) @ model[3].weight.T
    assert outputs.var() == pytest.approx(1, rel=1e-12)


# ---- unit variance of each output, and biases of data


@pytest.mark.parametrize("parametrization", ["standard", "ntk"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-12)])
def test_unit_variance_of_each_output(dtype, tolerance, parametrization):
    kind = {"parametrization": parametrization}
    model = dl.Sequential(
        dl.Scale(6),
        dl.Linear(6, 9, **kind),
        dl.Tanh(),
        dl.Linear(9, 3, **kind),
        dtype=dtype,
        seed=1,
    )
    x = np.random.default_rng(3).normal(2, 5, size=(300, 6)).astype(dtype)
    initialize(model, "unit_variance", bias="he+5", seed=0, x=x)
    first = model[:2](x) - model[1].bias
    np.testing.assert_allclose(first.std(0), 1, rtol=tolerance)
    last = model(x) - model[3].bias
    np.testing.assert_allclose(last.std(0), 1, rtol=tolerance)
    # A unit is 0 at a mean of five rows: its hinge is amid the data.
    for z in (model[:2](x), model(x)):
        assert (z.min(0) < 0).all()
        assert (z.max(0) > 0).all()
        assert abs(z.mean(0)).max() < 2.5
    # A point of the simplex in five dimensions has squares that add up to 1/3 on average.
    many = dl.Sequential(dl.Linear(6, 4000, **kind), dtype=dtype, seed=1)
    initialize(many, "unit_variance", bias="he+5", seed=0, x=x)
    assert many(x).mean(0).var() == pytest.approx(1 / 3, rel=0.1)


def test_unit_variance_keeps_outputs_that_do_not_vary():
    model = dl.Sequential(dl.Linear(2, 40, bias=False), dtype=np.float64)
    initialize(model, "unit_variance", seed=0, x=np.zeros((9, 2)))
    assert np.isfinite(model[0].weight).all()
    drawn = model[0].weight.copy()
    initialize(model, "lecun_normal", seed=0)
    np.testing.assert_array_equal(model[0].weight, drawn)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_unit_variance_takes_rounding_for_no_variance(dtype):
    def made(x):
        layers = [dl.Linear(40, 70), dl.ReLU(), dl.Linear(70, 30)]
        model = dl.Sequential(*layers, seed=0, dtype=dtype)
        initialize(model, "unit_variance", bias="he+5", seed=0, x=x)
        return model

    row = np.random.default_rng(0).normal(size=40).astype(dtype)
    same = made(np.tile(row, (999, 1)))
    # As they are drawn.
    assert 0.9 < np.std(same.state_dict()["0.weight"]) * np.sqrt(40) < 1.1
    assert 0.9 < np.std(same.state_dict()["2.weight"]) * np.sqrt(70) < 1.1
    other = np.tile(row, (999, 1)) * (1 + 1e-4 * np.random.default_rng(1).normal(size=(999, 1)))
    model = made(other.astype(dtype))
    z = other.astype(dtype).astype(np.float64) @ model.state_dict()["0.weight"].T.astype(np.float64)
    np.testing.assert_allclose(z.std(axis=0), 1, rtol=1e-2)


def test_layers_between_see_the_biases_of_data():
    x = np.random.default_rng(3).normal(size=(300, 6))
    model = dl.Sequential(dl.Linear(6, 8), dl.ReLU(), dl.Linear(8, 2), dtype=np.float64)
    initialize(model, "unit_variance", bias="he+5", seed=0, x=x)
    hidden = np.maximum(x @ model[0].weight.T + model[0].bias, 0)
    np.testing.assert_allclose((hidden @ model[2].weight.T).std(0), 1, rtol=1e-12)
    other = dl.Sequential(dl.Linear(6, 8), dl.ReLU(), dl.Linear(8, 2), dtype=np.float64)
    other.freeze("0.bias")
    before = other[0].bias.copy()
    initialize(other, "unit_variance", bias="he+5", seed=0, x=x)
    np.testing.assert_array_equal(other[0].bias, before)
    np.testing.assert_array_equal(other[0].weight, model[0].weight)


def test_weights_of_ntk_layers_are_those_of_the_product():
    kinds = ("standard", "ntk")
    for method in ("kaiming_normal", "orthogonal", "lecun_normal", "zeros"):
        standard, ntk = (
            dl.Sequential(dl.Linear(16, 8, parametrization=kind), dl.ReLU(), dtype=np.float64)
            for kind in kinds
        )
        initialize(standard, method, seed=4)
        initialize(ntk, method, seed=4)
        np.testing.assert_allclose(ntk[0].weight, 4 * standard[0].weight, rtol=1e-12)


def test_biases_by_name():
    model = dl.Sequential(dl.Linear(4, 4000), dl.Linear(4000, 2, bias=False), seed=0)
    initialize(model, "lecun_normal", bias="normal", seed=0)
    assert model[0].bias.std() == pytest.approx(1, rel=0.05)
    initialize(model, "default", bias="zeros", seed=0)
    assert not model[0].bias.any()
    initialize(model, "default", seed=0)
    assert model[0].bias.any()


# ---- errors


@pytest.mark.parametrize(
    ("method", "options", "error", "message"),
    [
        ("glorot", {}, ValueError, "method must be one of kaiming_uniform, .* not 'glorot'"),
        ("lsuv", {}, ValueError, "'lsuv' needs x"),
        ("lsuv", {"x": np.ones((5, 7))}, ValueError, r"x must have shape \(N, 6\), not \(5, 7\)"),
        ("lsuv", {"x": np.ones((5, 6), "f4")}, TypeError, "x is float32, the model float64"),
        ("lsuv", {"x": np.ones((0, 6))}, ValueError, "layer 0.* variance 0"),
        ("lsuv", {"x": np.zeros((9, 6))}, ValueError, "layer 0.* variance 0"),
        ("lsuv", {"x": np.full((9, 6), np.nan)}, ValueError, "layer 0.* variance nan"),
        ("lsuv", {"x": np.ones((5, 6)), "gain": 2}, ValueError, "gain has no meaning for 'lsuv'"),
        ("orthogonal", {"x": np.ones((5, 6))}, ValueError, "x has no meaning for 'orthogonal'"),
        ("unit_variance", {}, ValueError, "'unit_variance' needs x"),
        ("unit_variance", {"x": np.ones((0, 6))}, ValueError, "layer 0.* no finite variance"),
        ("unit_variance", {"x": np.full((9, 6), np.inf)}, ValueError, "layer 0.* no finite var"),
        ("orthogonal", {"bias": "he+5"}, ValueError, "'he\\+5' needs x"),
        ("orthogonal", {"bias": "he+5", "x": np.ones((0, 6))}, ValueError, "no finite outputs"),
        ("orthogonal", {"bias": "he+6"}, ValueError, "bias must be .* not 'he\\+6'"),
        ("lecun_normal", {"nonlinearity": "relu"}, ValueError, "nonlinearity has no meaning"),
        ("xavier_normal", {"mode": "fan_out"}, ValueError, "mode has no meaning"),
        ("kaiming_normal", {"mode": "fan"}, ValueError, "'fan_in' or 'fan_out', not 'fan'"),
        ("kaiming_normal", {"gain": -1}, ValueError, "gain must be positive and finite, not -1"),
        ("kaiming_normal", {"gain": 1, "nonlinearity": "relu"}, ValueError, "not both"),
        ("kaiming_normal", {"nonlinearity": "step"}, ValueError, "not 'step'"),
    ],
)
def test_wrong_arguments_change_nothing(method, options, error, message):
    model = network()
    before = model.flat.copy()
    with pytest.raises(error, match=message):
        initialize(model, method, seed=0, **options)
    np.testing.assert_array_equal(model.flat, before)


def test_a_model_is_needed():
    with pytest.raises(TypeError, match="must be a Sequential, not Linear"):
        initialize(dl.Linear(2, 3), "zeros")
