"""`Sequential` and the layers: values, initial weights, state, copies and errors."""

import copy
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


def test_parameters_cannot_be_replaced_by_accident():
    with pytest.raises(AttributeError):
        network()[0].weight = np.zeros((5, 3), np.float32)


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
