"""Layers with a parameter of each feature, and linear layers by the NTK parametrization."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dlcore as dl
from dlcore import reference
from dlcore.nn._layers import ACTIVATIONS
from support.exported import outputs_of
from support.models import slope


@pytest.fixture(autouse=True)
def _drawn_anew():
    """Let no test depend on what those before it have drawn."""
    RNG.bit_generator.state = np.random.default_rng(0).bit_generator.state


RNG = np.random.default_rng(0)


def ntk(inputs, outputs, bias=True, **options):
    return dl.Linear(inputs, outputs, bias, parametrization="ntk", **options)


def outputs(model, x):
    """Evaluate a network of the layers used here by its definition."""
    arrays = model.state_dict()
    for i, layer in enumerate(model.layers):
        own = lambda name, i=i: arrays[f"{i}.{name}"]
        if isinstance(layer, dl.Scale):
            x = x * own("weight")
        elif isinstance(layer, dl.Linear):
            root = np.sqrt(layer.in_features) if layer.parametrization == "ntk" else 1
            x = x @ own("weight").T / root + (own("bias") if layer.has_bias else 0)
        elif isinstance(layer, dl.ParametricActivation):
            x = x + own("weight") * (getattr(reference, layer.activation)(x) - x)
        elif isinstance(layer, dl.PReLU):
            x = np.where(x > 0, x, own("weight") * x)
        else:
            x = {dl.ReLU: dl.relu, dl.Tanh: dl.tanh}[type(layer)](x)
    return x


@st.composite
def networks(draw):
    width = inputs = draw(st.integers(1, 20))
    layers = [dl.Scale(width, 1.5)] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        out, bias = draw(st.integers(1, 40)), draw(st.booleans())
        kind = draw(st.sampled_from(["ntk", "standard"]))
        layers.append(dl.Linear(width, out, bias, parametrization=kind))
        width = out
        layers += draw(st.sampled_from([(), (dl.ReLU(),), (dl.Tanh(),)]))
        kinds = ["none", "scale", "parametric", "prelu", "prelu of all"]
        layers += {
            "none": [],
            "scale": [dl.Scale(width)],
            "parametric": [
                dl.ParametricActivation(width, draw(st.sampled_from(["mish", "selu", "sigmoid"])))
            ],
            "prelu": [dl.PReLU(width)],
            "prelu of all": [dl.PReLU()],
        }[draw(st.sampled_from(kinds))]
    model = dl.Sequential(*layers, dtype=np.float64, seed=draw(st.integers(0, 9)))
    model.flat[...] += 0.3 * np.random.default_rng(0).normal(size=model.flat.shape)
    return model, inputs


def check_differences(model, of, x, dy):
    """Hold the gradients of all parameters, and of x, to differences along a direction."""
    rng = np.random.default_rng(2)
    model.forward(x)
    dx = model.backward(dy)
    grads = [g.copy() for g in model.grads()]
    value = lambda: float((of(model, x) * dy).sum())
    for array, grad in zip([*model.parameters(), x], [*grads, dx], strict=True):
        direction = rng.normal(size=array.shape)
        exact = float((grad * direction).sum())
        assert slope(value, array, direction) == pytest.approx(exact, rel=2e-4, abs=2e-3)


@settings(max_examples=40, deadline=None)
@given(networks(), st.sampled_from([0, 1, 2, 7, 40, 150]))
def test_any_network_computes_its_definition(network, n):
    model, inputs = network
    x = np.random.default_rng(1).normal(size=(n, inputs))
    expected = outputs(model, x)
    np.testing.assert_allclose(model(x), expected, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(model.forward(x), expected, rtol=1e-9, atol=1e-10)
    np.testing.assert_array_equal(model.snapshot()(x), model(x))
    if n > 1:
        np.testing.assert_array_equal(model(x[:1]), model(x)[:1])


@settings(max_examples=30, deadline=None)
@given(networks(), st.sampled_from([1, 3, 50]))
def test_any_network_goes_back_as_differences_say(network, n):
    model, inputs = network
    rng = np.random.default_rng(2)
    x, dy = rng.normal(size=(n, inputs)), rng.normal(size=(n, model.out_features))
    check_differences(model, outputs, x, dy)


# ---- NTK


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_adam_of_ntk_is_adam_of_standard_weights_with_other_options(dtype):
    """A step of the weights is that of standard ones, divided by the root of the width."""
    x = RNG.normal(size=(200, 16)).astype(dtype)
    y = (x[:, 0] > x[:, 1]).astype(int)

    def trained(kind):
        model = dl.Sequential(
            dl.Linear(16, 64, parametrization=kind),
            dl.Tanh(),
            dl.Linear(64, 2, parametrization=kind),
            dtype=dtype,
            seed=3,
        )
        weights, groups = np.random.default_rng(5), []
        for i, root in (("0", 4), ("2", 8)):
            factor = 1 if kind == "ntk" else root
            own = model.named_parameters()[f"{i}.weight"]
            own[...] = weights.normal(size=own.shape) / factor
            model.named_parameters()[f"{i}.bias"][...] = 0.25
            options = {"lr": 0.01 / factor, "eps": 1e-8 * factor, "weight_decay": 0.1 * factor}
            groups.append({"params": model.parameters(f"{i}.weight"), **options})
        groups.append({"params": model.parameters("0.bias", "2.bias"), "weight_decay": 0.0})
        optimizer = dl.AdamW(groups, lr=0.01)
        dl.Trainer(model, loss="cross_entropy", optimizer=optimizer, seed=0).fit(
            x, y, epochs=5, batch_size=32, verbose=0
        )
        return model

    ours, standard = trained("ntk"), trained("standard")
    tolerance = 1e-4 if dtype == np.float32 else 1e-9
    np.testing.assert_allclose(ours(x), standard(x), rtol=tolerance, atol=tolerance)


def test_ntk_weights_begin_standard_normal():
    model = dl.Sequential(ntk(400, 300), seed=1)
    assert model[0].weight.std() == pytest.approx(1, rel=0.01)
    assert not model[0].bias.any()
    x = RNG.normal(size=(500, 400)).astype(np.float32)
    assert model(x).std() == pytest.approx(1, rel=0.05)


def test_infinities_and_nan_go_through():
    model = dl.Sequential(ntk(4, 3), dl.Scale(3), dtype=np.float64, seed=0)
    x = np.array([[np.nan, 0, 0, 0], [np.inf, 0, 0, 0]])
    y = model(x)
    assert np.isnan(y[0]).all()
    np.testing.assert_array_equal(y[1], np.sign(model[0].weight[:, 0]) * np.inf)


def test_only_known_parametrizations():
    with pytest.raises(
        ValueError, match="Linear: parametrization must be 'standard' or 'ntk', not"
    ):
        dl.Linear(3, 2, parametrization="mup")
    model = dl.Sequential(dl.Linear(3, 2), seed=0)
    with pytest.raises(AttributeError, match="parametrization cannot be changed"):
        model[0].parametrization = "ntk"
    assert repr(ntk(3, 2)) == "Linear(3, 2, parametrization=ntk)"
    assert "parametrization" not in repr(dl.Linear(3, 2))


@pytest.mark.parametrize("sparse", [False, True])
def test_sparse_rows_are_read_by_ntk_layers(sparse):
    sparse_module = pytest.importorskip("scipy.sparse")
    dense = (RNG.normal(size=(90, 30)) * (RNG.random((90, 30)) < 0.1)).astype(np.float32)
    x = sparse_module.csr_matrix(dense) if sparse else dense
    y = (dense.sum(1) > 0).astype(int)
    model = dl.Sequential(ntk(30, 8), dl.ReLU(), dl.Linear(8, 2), seed=0)
    dl.Trainer(model, loss="cross_entropy", seed=0).fit(x, y, epochs=3, verbose=0)
    np.testing.assert_allclose(model(x), outputs(model, dense), rtol=1e-4, atol=1e-5)


# ---- activations with parameters


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("width", [1, 7, 8, 65, 200])
@pytest.mark.parametrize("name", [*ACTIVATIONS, "prelu", "prelu of all"])
def test_parametric_activations(name, width, dtype):
    """Values and gradients for one row and more, of widths around the registers and the parts."""
    if name.startswith("prelu"):
        layer = dl.PReLU(1 if name == "prelu of all" else width, 0.2)
    else:
        layer = dl.ParametricActivation(width, name)
    model = dl.Sequential(layer, dtype=dtype, seed=0)
    rng = np.random.default_rng(width)
    model.flat[...] += rng.normal(size=model.flat.shape).astype(dtype) / 3
    for n in (1, 2, 70):
        x = rng.normal(size=(n, width)).astype(dtype) * 2
        dy = rng.normal(size=(n, width)).astype(dtype)
        wide, w = x.astype(np.longdouble), model.flat.astype(np.longdouble)
        if name.startswith("prelu"):
            expected = np.where(wide > 0, wide, w * wide)
            dx = np.where(wide > 0, dy, w * dy)
            dw = dy * np.where(wide > 0, 0, wide)
        else:
            f = getattr(reference, name)(wide)
            expected = wide + w * (f - wide)
            dx = dy + w * (getattr(reference, f"{name}_backward")(dy.astype(wide.dtype), wide) - dy)
            dw = dy * (f - wide)
        dw = dw.sum(keepdims=True) if name == "prelu of all" else dw.sum(0)
        close = (
            {"rtol": 2e-4, "atol": 2e-5} if dtype == np.float32 else {"rtol": 1e-11, "atol": 1e-13}
        )
        np.testing.assert_allclose(model(x), expected.astype(dtype), **close)
        np.testing.assert_allclose(model.backward(x, dy), dx.astype(dtype), **close)
        if dtype == np.float64:
            close = {"rtol": 1e-9, "atol": 1e-11}
        np.testing.assert_allclose(model.grads()[0], dw.astype(dtype).ravel(), **close)
        model.backward(x, dy, add=True)
        np.testing.assert_allclose(model.grads()[0], 2 * dw.astype(dtype).ravel(), **close)


def test_parametric_activations_at_the_edges():
    x = np.array([[np.inf, -np.inf, np.nan, 0.0, -0.0]])
    for name in ("mish", "selu", "relu"):
        model = dl.Sequential(dl.ParametricActivation(5, name), dtype=np.float64)
        y = model(x)[0]
        of_infinity = dl.selu(x)[0, 0] if name == "selu" else np.inf
        assert y[0] == of_infinity
        assert np.isnan(y[1:3]).all()
        np.testing.assert_array_equal(y[3:], 0)
    y = dl.Sequential(dl.PReLU(), dtype=np.float64)(x)[0]
    np.testing.assert_array_equal(y, [np.inf, -np.inf, np.nan, 0, 0])
    np.testing.assert_array_equal(np.signbit(y[3:]), [False, True])


def test_a_weight_of_one_is_the_activation():
    x = RNG.normal(size=(40, 6))
    for name in ("mish", "selu", "gelu"):
        model = dl.Sequential(dl.ParametricActivation(6, name), dtype=np.float64)
        np.testing.assert_allclose(model(x), getattr(dl, name)(x), rtol=1e-14, atol=1e-15)
        model[0].weight = np.zeros(6)
        np.testing.assert_array_equal(model(x), x)


def test_slopes_are_learned():
    x = RNG.normal(size=(300, 3)).astype(np.float32)
    y = np.where(x > 0, x, np.float32([-1, 0, 0.6]) * x)
    model = dl.Sequential(dl.PReLU(3), seed=0)
    adam = dl.Adam(model.parameters(), lr=0.02)
    dl.Trainer(model, loss="mse", optimizer=adam, seed=0).fit(x, y, epochs=40, verbose=0)
    np.testing.assert_allclose(model[0].weight, [-1, 0, 0.6], atol=0.02)
    one = dl.Sequential(dl.PReLU(), seed=0)
    adam = dl.Adam(one.parameters(), lr=0.02)
    y = np.where(x > 0, x, np.float32(0.6) * x)
    dl.Trainer(one, loss="mse", optimizer=adam, seed=0).fit(x, y, epochs=40, verbose=0)
    np.testing.assert_allclose(one[0].weight, [0.6], atol=0.02)


# ---- what all layers promise


def realmlp(dtype=np.float32):
    return dl.Sequential(
        dl.Scale(6),
        ntk(6, 40),
        dl.ParametricActivation(40, "selu"),
        dl.Dropout(0.1),
        ntk(40, 24),
        dl.PReLU(),
        dl.ParametricActivation(24, "mish"),
        ntk(24, 3),
        dtype=dtype,
        seed=0,
    )


def rows(n, dtype=np.float32):
    x = np.random.default_rng(3).normal(size=(n, 6)).astype(dtype)
    return x, (x[:, 0] * x[:, 1] > 0).astype(int) + (x[:, 2] > 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_threads_do_not_change_a_bit(dtype):
    x, y = rows(300, dtype)
    results = []
    before = dl.get_num_threads()
    try:
        for threads in (1, 3):
            dl.set_num_threads(threads)
            model = realmlp(dtype)
            dl.Trainer(model, loss="cross_entropy", optimizer="adamw", seed=0).fit(
                x, y, epochs=3, batch_size=150, verbose=0
            )
            results.append(model.flat.copy())
    finally:
        dl.set_num_threads(before)
    np.testing.assert_array_equal(results[0], results[1])


@pytest.mark.parametrize("how", ["file", "copy", "pickle", "state"])
def test_copies_and_files(how, tmp_path):
    x, y = rows(100)
    model = realmlp()
    dl.Trainer(model, loss="cross_entropy", seed=0).fit(x, y, epochs=2, verbose=0)
    if how == "file":
        dl.save(model, tmp_path / "model")
        other = dl.load(tmp_path / "model")
    elif how == "state":
        other = realmlp()
        other.load_state_dict(model.state_dict())
    else:
        other = copy.deepcopy(model) if how == "copy" else pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(other(x), model(x))
    assert repr(other) == repr(model)


def test_factors_of_features_are_learned_and_frozen():
    x, _ = rows(400)
    y = x[:, :1] * 3
    model = dl.Sequential(dl.Scale(6), ntk(6, 1), seed=0)
    groups = [{"params": model.parameters("0"), "lr": 0.06}, {"params": model.parameters("1")}]
    adam = dl.Adam(groups, lr=0.01)
    dl.Trainer(model, loss="mse", optimizer=adam, seed=0).fit(x, y, epochs=60, verbose=0)
    scale = abs(model[0].weight)
    assert scale[0] > 2 * scale[1:].max()
    model.freeze("0")
    model.freeze("1.weight")
    before = model.state_dict()
    dl.Trainer(model, loss="mse", seed=0).fit(x, y + 1, epochs=2, verbose=0)
    after = model.state_dict()
    np.testing.assert_array_equal(after["0.weight"], before["0.weight"])
    np.testing.assert_array_equal(after["1.weight"], before["1.weight"])
    assert after["1.bias"] != before["1.bias"]


def test_members_share_factors():
    model = dl.Sequential(
        dl.Scale(5, 2.0), dl.ScaleEnsemble(3, 5), ntk(5, 4), dl.Scale(4), dtype=np.float64, seed=0
    )
    model.flat[...] += RNG.normal(size=model.flat.shape)
    x, arrays = RNG.normal(size=(7, 5)), model.state_dict()
    x_of = (x * arrays["0.weight"])[:, np.newaxis] * arrays["1.weight"]
    expected = x_of @ arrays["2.weight"].T / np.sqrt(5) + arrays["2.bias"]
    expected = expected * arrays["3.weight"]
    np.testing.assert_allclose(model(x).reshape(7, 3, 4), expected, rtol=1e-12)

    def of(model, x):
        arrays = model.state_dict()
        x_of = (x * arrays["0.weight"])[:, np.newaxis] * arrays["1.weight"]
        y = x_of @ arrays["2.weight"].T / np.sqrt(5) + arrays["2.bias"]
        return (y * arrays["3.weight"]).reshape(21, 4)

    check_differences(model, of, x, RNG.normal(size=(21, 4)))


def test_wrong_options():
    with pytest.raises(ValueError, match="Scale: num_features must be a positive integer, not 0"):
        dl.Scale(0)
    with pytest.raises(ValueError, match="Scale: init must be a finite number, not nan"):
        dl.Scale(3, np.nan)
    with pytest.raises(ValueError, match="takes 4 features"):
        dl.Sequential(dl.Linear(3, 5), dl.Scale(4))
    with pytest.raises(ValueError, match="PReLU: num_parameters must be a positive integer"):
        dl.PReLU(0)
    with pytest.raises(ValueError, match="ParametricActivation: activation must be one of relu"):
        dl.ParametricActivation(3, "swish")
    with pytest.raises(ValueError, match="takes 4 features"):
        dl.Sequential(dl.Linear(3, 5), dl.PReLU(4))
    assert repr(dl.PReLU()) == "PReLU(num_parameters=1, init=0.25)"
    assert dl.Sequential(dl.PReLU(), seed=0).in_features is None
    assert repr(dl.ParametricActivation(3)) == "ParametricActivation(3, activation=mish)"
    assert repr(dl.Scale(3)) == "Scale(3)"
    assert repr(dl.Scale(3, 2.0)) == "Scale(3, init=2.0)"


def test_exports_and_folding():
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    x, y = rows(200)
    model = dl.Sequential(
        dl.BatchNorm1d(6),
        dl.Scale(6),
        ntk(6, 16),
        dl.BatchNorm1d(16),
        dl.ReLU(),
        ntk(16, 3),
        seed=0,
    )
    dl.Trainer(model, loss="cross_entropy", seed=0).fit(x, y, epochs=3, verbose=0)
    folded = dl.fold_batch_norm(model)
    assert sum(isinstance(layer, dl.BatchNorm1d) for layer in folded.layers) == 1
    np.testing.assert_allclose(folded(x), model(x), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        outputs_of(dl.to_onnx(model), x)["variable"], model(x), rtol=1e-4, atol=1e-5
    )
