"""`Sequential` and the layers: values, initial weights, state, copies and errors."""

import copy
import itertools
import pickle

import numpy as np
import pytest

import dlcore as dl
from dlcore import reference

ACTIVATIONS = {
    "relu": dl.ReLU(),
    "leaky_relu": dl.LeakyReLU(negative_slope=0.2),
    "elu": dl.ELU(alpha=0.7),
    "gelu": dl.GELU(approximate="tanh"),
    "silu": dl.SiLU(),
    "mish": dl.Mish(),
    "selu": dl.SELU(),
    "sigmoid": dl.Sigmoid(),
    "tanh": dl.Tanh(),
    "softplus": dl.Softplus(beta=2.0, threshold=5.0),
}


def network(dtype=np.float32, seed=0):
    return dl.Sequential(
        dl.Linear(3, 5), dl.Tanh(), dl.Linear(5, 2, bias=False), dtype=dtype, seed=seed
    )


def rows(n=7, dtype=np.float32):
    return np.random.default_rng(1).normal(size=(n, 3)).astype(dtype)


# ---- values


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_outputs_are_those_of_the_formula(dtype):
    model, x = network(dtype), rows(dtype=dtype)
    state = {name: value.astype(np.float64) for name, value in model.state_dict().items()}
    hidden = np.tanh(x.astype(np.float64) @ state["0.weight"].T + state["0.bias"])
    y = model(x)
    assert y.dtype == dtype
    np.testing.assert_allclose(y, hidden @ state["2.weight"].T, rtol=20 * np.finfo(dtype).eps)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_take_their_options(name):
    layer, x = ACTIVATIONS[name], rows(dtype=np.float64)
    expected = getattr(reference, name)(x, **layer.options)
    before = x.copy()
    np.testing.assert_allclose(dl.Sequential(layer, dtype=np.float64)(x), expected, rtol=1e-13)
    np.testing.assert_array_equal(x, before)


def test_an_activation_may_be_used_twice():
    relu = dl.ReLU()
    model = dl.Sequential(dl.Linear(3, 4), relu, dl.Linear(4, 4), relu)
    assert model(rows()).min() >= 0


@pytest.mark.parametrize(
    "layout",
    [np.asfortranarray, lambda x: np.repeat(x, 2, 1)[:, ::2], lambda x: x[::-1].copy()[::-1]],
)
def test_the_layout_of_x_does_not_matter(layout):
    model, x = network(), rows(33)
    np.testing.assert_allclose(model(layout(x)), model(x), rtol=1e-6)


def test_no_rows_give_no_outputs():
    assert network()(rows(0)).shape == (0, 2)


# ---- initial weights


def test_initial_weights_fill_the_range_evenly():
    model = dl.Sequential(dl.Linear(100, 400), seed=3)
    for value in model.parameters():
        assert np.abs(value).max() <= 0.1
        assert value.max() > 0.099
        assert value.min() < -0.099
        assert abs(value.mean()) < 0.01
        assert value.std() == pytest.approx(0.1 / np.sqrt(3), rel=0.05)


def test_the_seed_draws_the_weights():
    np.testing.assert_array_equal(network(seed=5).flat, network(seed=5).flat)
    assert not np.array_equal(network(seed=5).flat, network(seed=6).flat)
    assert not np.array_equal(network(seed=None).flat, network(seed=None).flat)


def test_float32_weights_are_the_rounded_float64_ones():
    np.testing.assert_array_equal(network().flat, network(np.float64).flat.astype(np.float32))


# ---- parameters and state


def test_parameters_are_views_on_one_array():
    model = network()
    assert [p.shape for p in model.parameters()] == [(5, 3), (5,), (2, 5)]
    assert model.flat.size == 30
    model.flat[...] = np.arange(30)
    assert np.concatenate([p.ravel() for p in model.parameters()]).tolist() == list(range(30))
    assert model[0].weight[4, 2] == 14
    assert model[0].bias[0] == 15
    assert model[2].bias is None
    model[0].weight[0, 0] = 99
    assert model.flat[0] == 99


def test_parameters_that_are_assigned_are_filled_in_where_they_are():
    model = network()
    weight, bias, flat = model[0].weight, model[0].bias, model.flat
    model(rows())  # inference has been described
    model[0].weight = np.full((5, 3), 2.0, model.dtype)
    model[0].weight *= 2
    model[0].bias += 1
    assert model[0].weight is weight
    assert model[0].bias is bias
    assert (weight == 4).all()
    assert (flat[:15] == 4).all()
    np.testing.assert_array_equal(model.state_dict()["0.weight"], weight)
    with pytest.raises(AttributeError, match="changes the parameters"):
        model.flat = 0.5 * model.flat
    assert (weight == 4).all()
    other = network(seed=1)
    other.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(model(rows()), other(rows()))


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (np.zeros((3, 5), network().dtype), ValueError, r"Linear.weight must have shape \(5, 3\)"),
        (np.zeros((5, 3), np.float16), TypeError, "Linear.weight is float16, the model float"),
        ([[0.0] * 3] * 5, TypeError, "Linear.weight must be an array"),
        (None, TypeError, "Linear.weight must be an array"),
    ],
)
def test_what_cannot_be_assigned_changes_nothing(values, error, message):
    model = network()
    before = model.flat.copy()
    with pytest.raises(error, match=message):
        model[0].weight = values
    np.testing.assert_array_equal(model.flat, before)


def test_assigned_running_statistics():
    model = dl.Sequential(dl.BatchNorm1d(2), dtype=np.float64)
    model[0].running_mean = np.array([1.0, 2.0])
    model[0].running_var = np.array([4.0, 0.25])
    model[0].num_batches_tracked = np.array(3)
    np.testing.assert_allclose(model(np.array([[3.0, 3.0]])), [[1.0, 2.0]], rtol=1e-4)
    assert model.state_dict()["0.num_batches_tracked"] == 3


def test_a_bias_that_is_not_there():
    model = dl.Sequential(dl.Linear(2, 2, bias=False), seed=0)
    with pytest.raises(AttributeError, match="has no bias"):
        model[0].bias = np.zeros(2, np.float32)


def test_inference_follows_options_that_are_set():
    model = dl.Sequential(dl.BatchNorm1d(2), dl.LayerNorm(2), dtype=np.float64)
    x = np.array([[1.0, -2.0], [0.5, 0.25]])
    before = model(x)
    for layer in model:
        layer.eps = 0.5
        after = model(x)
        assert not np.allclose(before, after)
        before = after
    other = dl.Sequential(dl.BatchNorm1d(2, eps=0.5), dl.LayerNorm(2, eps=0.5), dtype=np.float64)
    np.testing.assert_array_equal(before, other(x))


@pytest.mark.parametrize(
    ("layer", "name", "value", "error"),
    [
        (dl.Linear(2, 2), "in_features", 3, AttributeError),
        (dl.Linear(2, 2), "out_features", 3, AttributeError),
        (dl.Linear(2, 2), "has_bias", False, AttributeError),
        (dl.Linear(2, 2), "max_norm", -1.0, ValueError),
        (dl.BatchNorm1d(2), "in_features", 3, AttributeError),
        (dl.BatchNorm1d(2), "has_weight", False, AttributeError),
        (dl.BatchNorm1d(2), "momentum", 1.5, ValueError),
        (dl.BatchNorm1d(2), "eps", -1.0, ValueError),
        (dl.LayerNorm(2), "eps", np.nan, ValueError),
        (dl.Dropout(), "p", 1.5, ValueError),
        (dl.LeakyReLU(), "negative_slope", 0.5, AttributeError),
    ],
)
def test_options_of_layers_are_checked_when_they_are_set(layer, name, value, error):
    dl.Sequential(layer, seed=0)
    before = getattr(layer, name)
    with pytest.raises(error, match=name):
        setattr(layer, name, value)
    assert getattr(layer, name) == before


@pytest.mark.parametrize("name", ["layers", "dtype", "frozen", "in_features"])
def test_what_a_model_is_made_of_cannot_be_replaced(name):
    with pytest.raises(AttributeError):
        setattr(network(), name, None)


def test_a_copy_follows_its_own_options_alone():
    model = dl.Sequential(dl.BatchNorm1d(2), dl.Dropout(0.25), dtype=np.float64)
    x = np.array([[1.0, -2.0]])
    other = pickle.loads(pickle.dumps(model))
    before = model(x)
    other[0].eps = 1.0
    assert not np.allclose(other(x), before)
    np.testing.assert_array_equal(model(x), before)
    assert other[1].p == 0.25


def test_state_has_the_names_and_shapes_of_pytorch():
    state = network().state_dict()
    assert {name: value.shape for name, value in state.items()} == {
        "0.weight": (5, 3),
        "0.bias": (5,),
        "2.weight": (2, 5),
    }


def test_state_is_a_copy():
    model = network()
    before = model.flat.copy()
    model.state_dict()["0.weight"][...] = 7
    np.testing.assert_array_equal(model.flat, before)


def test_state_travels():
    model, other = network(seed=0), network(seed=1)
    other.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(model(rows()), other(rows()))


def test_state_that_does_not_fit_is_listed_and_changes_nothing():
    model = network()
    before = model.flat.copy()
    state = network(seed=1).state_dict()
    state["0.bias"] = state["0.bias"][:4]
    state["1.scale"] = state.pop("2.weight")
    with pytest.raises(ValueError, match=r"0\.bias has shape") as error:
        model.load_state_dict(state)
    for text in ("(4,)", "(5,)", "2.weight is missing", "1.scale is not in the model"):
        assert text in str(error.value)
    np.testing.assert_array_equal(model.flat, before)


def test_state_of_another_dtype_is_a_type_error():
    model = network()
    before = model.flat.copy()
    with pytest.raises(TypeError, match=r"0\.weight is float64, the model float32"):
        model.load_state_dict(network(np.float64, seed=1).state_dict())
    np.testing.assert_array_equal(model.flat, before)


def test_state_may_be_partial_if_not_strict():
    model = network()
    expected = model.state_dict() | {"0.bias": np.ones(5, np.float32)}
    model.load_state_dict({"0.bias": expected["0.bias"], "new": np.zeros(1)}, strict=False)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, expected[name])
    with pytest.raises(ValueError, match=r"0\.bias has shape"):
        model.load_state_dict({"0.bias": np.ones(4, np.float32)}, strict=False)


def test_freezing_by_layer_and_by_parameter():
    model = dl.Sequential(*(dl.Linear(2, 2) for _ in range(11)))
    model.freeze("1")
    assert model.frozen == {"1.weight", "1.bias"}  # not "10.weight"
    model.freeze("0.bias")
    model.unfreeze("1.weight")
    assert model.frozen == {"0.bias", "1.bias"}
    with pytest.raises(ValueError, match=r"no parameter '11'.*0\.weight"):
        model.freeze("11")


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_are_whole_and_independent(duplicate):
    model = network()
    model.freeze("0")
    before = model(rows())
    other = duplicate(model)
    assert other.frozen == model.frozen
    np.testing.assert_array_equal(other(rows()), before)
    other.flat[...] = 0
    assert not other(rows()).any()
    assert other[2].weight[0, 0] == 0
    np.testing.assert_array_equal(model(rows()), before)


# ---- as a sequence


def test_a_model_is_a_sequence_of_layers():
    model = network()
    assert len(model) == 3
    assert isinstance(model[1], dl.Tanh)
    assert model[-1] is model[2]
    assert [type(layer).__name__ for layer in model] == ["Linear", "Tanh", "Linear"]
    assert (model.in_features, model.out_features) == (3, 2)


def test_repr_shows_the_layers():
    assert repr(network()) == (
        "Sequential(  # 30 parameters, float32\n"
        "  (0): Linear(3, 5)\n"
        "  (1): Tanh()\n"
        "  (2): Linear(5, 2, bias=False)\n"
        ")"
    )
    assert repr(dl.LeakyReLU()) == "LeakyReLU(negative_slope=0.01)"


# ---- errors


def test_neighbors_must_fit():
    with pytest.raises(
        ValueError, match=r"layer 2, Linear\(6, 2\), takes 6 .* layer 0, .* gives 5"
    ):
        dl.Sequential(dl.Linear(3, 5), dl.ReLU(), dl.Linear(6, 2))


def test_a_layer_is_part_of_one_model():
    layer = dl.Linear(3, 3)
    with pytest.raises(RuntimeError, match="no parameters before"):
        layer.weight  # noqa: B018
    with pytest.raises(ValueError, match="already part"):
        dl.Sequential(layer, layer)
    dl.Sequential(layer)
    other = dl.Linear(3, 3)
    with pytest.raises(ValueError, match="already part"):
        dl.Sequential(other, layer)
    dl.Sequential(other)  # was not taken by the attempt


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (dl.Sequential, ValueError, "at least one layer"),
        (lambda: dl.Sequential(dl.ReLU), TypeError, "takes layers"),
        (lambda: dl.Sequential([dl.ReLU()]), TypeError, "takes layers"),
        (lambda: dl.Sequential(dl.ReLU(), dtype=np.float16), TypeError, "float32 or float64"),
        (lambda: dl.Linear(0, 3), ValueError, "in_features must be a positive integer"),
        (lambda: dl.Linear(3, 2.5), ValueError, "out_features must be a positive integer"),
        (lambda: dl.GELU("erf"), ValueError, "approximate"),
    ],
)
def test_wrong_construction(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.zeros((4, 3)), TypeError, "x is float64, the model float32"),
        (np.zeros((4, 3), np.int64), TypeError, "x is int64"),
        ([[0.0, 0.0, 0.0]], TypeError, "x must be an array"),
        (np.zeros((4, 2), np.float32), ValueError, r"\(N, 3\), not \(4, 2\)"),
        (np.zeros(3, np.float32), ValueError, r"\(N, 3\), not \(3,\)"),
    ],
)
def test_wrong_x(x, error, message):
    with pytest.raises(error, match=message):
        network()(x)


# ---- snapshots ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("rows", [0, 1, 2, 64, 65, 300])
@pytest.mark.parametrize("widths", [(3, 1), (300, 130, 7), (513, 64, 33, 10), (20, 160, 16)])
def test_a_snapshot_is_the_model_as_it_was(dtype, rows, widths):
    layers = [
        n for a, b in itertools.pairwise(widths) for n in (dl.Linear(a, b), dl.ReLU(), dl.Tanh())
    ]
    model = dl.Sequential(*layers[:-2], dtype=dtype, seed=0)
    x = np.random.default_rng(0).normal(size=(rows, widths[0])).astype(dtype)
    snapshot = model.snapshot()
    expected = model(x)
    for threads in (1, 2, 3):
        with dl.num_threads(threads):
            np.testing.assert_array_equal(snapshot(x), expected)
    model.flat[...] = 7
    np.testing.assert_array_equal(snapshot(x), expected)
    np.testing.assert_array_equal(snapshot(np.asfortranarray(x)), expected)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(snapshot))(x), expected)
    assert snapshot.in_features == widths[0]
    assert snapshot.out_features == widths[-1]


def test_a_snapshot_checks_what_it_is_given():
    snapshot = dl.Sequential(dl.Linear(3, 2, bias=False), seed=0).snapshot()
    with pytest.raises(TypeError, match="x is float64, the model float32"):
        snapshot(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"x must have shape \(N, 3\)"):
        snapshot(np.ones((2, 4), np.float32))
    any_width = dl.Sequential(dl.ReLU(), dl.Dropout(0.5)).snapshot()
    for width in (2, 5):
        x = np.ones((3, width), np.float32)
        np.testing.assert_array_equal(any_width(x), x)
