"""New heads, folded batch normalization, safetensors files, parameters by name and sparsity."""

import json

import numpy as np
import pytest

import dlcore as dl
from dlcore.nn import fold_batch_norm, load_safetensors, replace_head, save_safetensors


def trained(*layers, dtype=np.float32, seed=0):
    """Return a model as after training: no two values the same, variances positive."""
    model = dl.Sequential(*layers, dtype=dtype, seed=seed)
    rng = np.random.default_rng(seed)
    state = model.state_dict()
    for name, value in state.items():
        if name.endswith("num_batches_tracked"):
            state[name] = np.array(100)
        elif name.endswith("running_var"):
            state[name] = rng.uniform(0.2, 3, value.shape).astype(dtype)
        else:
            state[name] = rng.normal(0, 0.5, value.shape).astype(dtype)
    model.load_state_dict(state)
    return model


def body(dtype=np.float32):
    return trained(
        dl.Linear(4, 6), dl.BatchNorm1d(6), dl.ReLU(), dl.Linear(6, 3), dl.Tanh(), dtype=dtype
    )


def rows(n=50, features=4, dtype=np.float32):
    return np.random.default_rng(9).normal(1, 2, size=(n, features)).astype(dtype)


# ---- a new head


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_body_is_copied_and_the_head_new(dtype):
    model = body(dtype)
    before = model.state_dict()
    new = replace_head(model, dl.Linear(6, 5), dl.ReLU(), dl.Linear(5, 2), seed=3)
    assert [repr(layer) for layer in new] == [
        *map(repr, model.layers[:3]),
        "Linear(6, 5)",
        "ReLU()",
        "Linear(5, 2)",
    ]
    assert new.dtype == dtype
    state = new.state_dict()
    kept = {name for name in before if name[0] in "01"}
    assert len(kept) == 7
    for name in kept:
        np.testing.assert_array_equal(state[name], before[name])
    assert set(state) - kept == {"3.weight", "3.bias", "5.weight", "5.bias"}
    again = replace_head(model, dl.Linear(6, 5), dl.ReLU(), dl.Linear(5, 2), seed=3)
    np.testing.assert_array_equal(again.flat, new.flat)
    other = replace_head(model, dl.Linear(6, 5), dl.ReLU(), dl.Linear(5, 2), seed=4)
    assert not np.isclose(other[3].weight, new[3].weight).any()


def test_the_old_model_is_untouched():
    model = body()
    before, y = model.state_dict(), model(rows())
    new = replace_head(model, dl.Linear(6, 2), seed=0)
    new.flat[...] = 0
    new[1].running_mean[...] = 0
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    np.testing.assert_array_equal(model(rows()), y)
    assert len(model) == 5


def test_without_a_head_the_body_is_left():
    model = body()
    features = replace_head(model)(rows())
    hidden = rows() @ model[0].weight.T + model[0].bias
    scale = model[1].weight / np.sqrt(model[1].running_var + 1e-5)
    hidden = (hidden - model[1].running_mean) * scale + model[1].bias
    np.testing.assert_allclose(features, np.maximum(hidden, 0), rtol=1e-4, atol=1e-5)


def test_what_is_frozen_stays_frozen():
    model = body()
    model.freeze("0.bias")
    model.freeze("1")
    model.freeze("3")
    new = replace_head(model, dl.Linear(6, 3), seed=0)
    assert "3.weight" in model.frozen
    assert new.frozen == {name for name in model.frozen if not name.startswith("3.")}
    new.unfreeze("0.bias")
    assert "0.bias" in model.frozen


def test_training_the_new_model_keeps_what_is_frozen():
    new = replace_head(body(), dl.Linear(6, 2), seed=0)
    new.freeze("0")
    before = new.state_dict()
    x, y = rows(), np.arange(50) % 2
    dl.Trainer(new, loss="cross_entropy", seed=0).fit(x, y, epochs=2, verbose=0)
    after = new.state_dict()
    for name in ("0.weight", "0.bias"):
        np.testing.assert_array_equal(after[name], before[name])
    assert (after["3.bias"] != before["3.bias"]).all()


def test_heads_that_do_not_fit():
    model = body()
    with pytest.raises(
        ValueError, match=r"layer 3, Linear\(5, 2\), takes 5 .* layer 1, .* gives 6"
    ):
        replace_head(model, dl.Linear(5, 2))
    with pytest.raises(ValueError, match="already part of a model"):
        replace_head(model, model[3])
    with pytest.raises(ValueError, match="no Linear layer"):
        replace_head(dl.Sequential(dl.ReLU()), dl.Linear(2, 2))
    with pytest.raises(ValueError, match="takes 5 features, the given one 4"):
        replace_head(dl.Sequential(dl.Linear(4, 2)), dl.Linear(5, 2))


# ---- folding


# Layers and what is left of them.
NETWORKS = {
    "after": (
        lambda: [dl.Linear(4, 6), dl.BatchNorm1d(6), dl.ReLU(), dl.Linear(6, 3)],
        "Linear(4, 6) ReLU() Linear(6, 3)",
    ),
    "after, without bias": (
        lambda: [dl.Linear(4, 6, bias=False), dl.BatchNorm1d(6, eps=0.1), dl.Tanh()],
        "Linear(4, 6) Tanh()",
    ),
    "without scale and shift": (
        lambda: [dl.Linear(4, 6), dl.BatchNorm1d(6, affine=False), dl.ReLU()],
        "Linear(4, 6) ReLU()",
    ),
    "before": (
        lambda: [
            *(dl.BatchNorm1d(4), dl.Linear(4, 6), dl.ReLU()),
            *(dl.BatchNorm1d(6), dl.Linear(6, 3)),
        ],
        "Linear(4, 6) ReLU() Linear(6, 3)",
    ),
    "before, without bias": (
        lambda: [dl.BatchNorm1d(4), dl.Linear(4, 6, bias=False)],
        "Linear(4, 6)",
    ),
    "between": (
        lambda: [dl.Linear(4, 6), dl.BatchNorm1d(6), dl.Linear(6, 3, bias=False)],
        "Linear(4, 6) Linear(6, 3, bias=False)",
    ),
    "two in a row": (
        lambda: [
            *(dl.BatchNorm1d(4), dl.BatchNorm1d(4), dl.Linear(4, 6)),
            *(dl.BatchNorm1d(6), dl.BatchNorm1d(6)),
        ],
        "Linear(4, 6)",
    ),
    "through dropout": (
        lambda: [dl.Linear(4, 6), dl.Dropout(0.5), dl.BatchNorm1d(6), dl.SiLU(), dl.Dropout(0.2)],
        "Linear(4, 6) SiLU()",
    ),
    "not all": (
        lambda: [
            *(dl.BatchNorm1d(4, eps=0.5), dl.ReLU(), dl.Linear(4, 6)),
            *(dl.LayerNorm(6), dl.BatchNorm1d(6)),
        ],
        f"{dl.BatchNorm1d(4, eps=0.5)} ReLU() Linear(4, 6) {dl.LayerNorm(6)} {dl.BatchNorm1d(6)}",
    ),
    "none": (lambda: [dl.Linear(4, 6), dl.ReLU()], "Linear(4, 6) ReLU()"),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 2e-14)])
def test_folding_keeps_the_outputs(name, dtype, tolerance):
    layers, left = NETWORKS[name]
    model, x = trained(*layers(), dtype=dtype), rows(dtype=dtype)
    before, y = model.state_dict(), model(x)
    model.freeze("0")
    new = fold_batch_norm(model)
    assert " ".join(map(repr, new)) == left
    assert (new.dtype, new.frozen) == (dtype, frozenset())
    np.testing.assert_allclose(new(x), y, rtol=tolerance, atol=tolerance * abs(y).max())
    new.flat[...] = 0
    for key, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[key])


def test_folded_weights_worked_by_hand():
    model = dl.Sequential(
        *(dl.BatchNorm1d(1, eps=0), dl.Linear(1, 2), dl.BatchNorm1d(2, eps=1.0)),
        *(dl.ReLU(), dl.BatchNorm1d(2, eps=0), dl.Linear(2, 1)),
        dtype=np.float64,
    )
    state = {
        # y = (x - 1) / 2 * 3 + 5 = 1.5 x + 3.5
        "0": {"weight": [3], "bias": [5], "running_mean": [1], "running_var": [4]},
        "1": {"weight": [[2], [-1]], "bias": [0, 1]},
        # scales 4 / 2 and 1 / 1, shifts 0.5 - 1 * 2 and 0
        "2": {"weight": [4, 1], "bias": [0.5, 0], "running_mean": [1, 0], "running_var": [3, 0]},
        # scales 1 / 0.5 and 2 / 0.5, shifts 1 - 3 * 2 and 0
        "4": {"weight": [1, 2], "bias": [1, 0], "running_mean": [3, 0], "running_var": [0.25] * 2},
        "5": {"weight": [[1, 0.5]], "bias": [7]},
    }
    for i, arrays in state.items():
        named = {f"{i}.{name}": np.array(value, np.float64) for name, value in arrays.items()}
        model.load_state_dict(named, strict=False)
    new = fold_batch_norm(model).state_dict()
    # The first norm directly precedes a Linear, which the second one follows:
    # weights (2, -1) * 1.5, biases (0, 1) + (2, -1) * 3.5, then * (2, 1) + (-1.5, 0).
    np.testing.assert_array_equal(new["0.weight"], [[6], [-1.5]])
    np.testing.assert_array_equal(new["0.bias"], [12.5, -2.5])
    np.testing.assert_array_equal(new["2.weight"], [[2, 2]])
    np.testing.assert_array_equal(new["2.bias"], [7 - 5 + 0])
    assert len(new) == 4


def test_folding_after_training():
    model = dl.Sequential(
        *(dl.Linear(4, 8), dl.BatchNorm1d(8), dl.ReLU(), dl.Dropout(0.2)),
        *(dl.BatchNorm1d(8), dl.Linear(8, 2)),
        seed=0,
    )
    x, y = rows(200), np.arange(200) % 2
    dl.Trainer(model, loss="cross_entropy", seed=0).fit(x, y, epochs=3, verbose=0)
    assert not np.allclose(model[4].running_var, 1, atol=0.01)
    np.testing.assert_allclose(fold_batch_norm(model)(x), model(x), rtol=1e-5, atol=1e-5)


def test_nothing_but_dropout_cannot_be_folded():
    with pytest.raises(ValueError, match="no layers but Dropout"):
        fold_batch_norm(dl.Sequential(dl.Dropout(0.5)))


# ---- safetensors


def pytorch_file(path, prefix=""):
    """Write the ``state_dict`` that PyTorch's network of these layers has."""
    save_file = pytest.importorskip("safetensors.numpy").save_file

    state = {
        "0.weight": np.array([[1, -1], [2, 0]], np.float32),
        "0.bias": np.array([0, -1], np.float32),
        "1.weight": np.array([4, 1], np.float32),
        "1.bias": np.array([0.5, 0], np.float32),
        "1.running_mean": np.array([1, 0], np.float32),
        "1.running_var": np.array([3, 0], np.float32),
        "1.num_batches_tracked": np.array(8, np.int64),
        "3.weight": np.array([[1, 2]], np.float32),
        "3.bias": np.array([0.25], np.float32),
    }
    state = {prefix + name: value for name, value in state.items()}
    save_file(state | {"other.weight": np.ones(3, np.float16)} if prefix else state, path)
    return path


@pytest.mark.parametrize("prefix", ["", "net."])
def test_weights_from_pytorch_give_its_outputs(tmp_path, prefix):
    layers = [dl.Linear(2, 2), dl.BatchNorm1d(2, eps=1.0), dl.ReLU(), dl.Linear(2, 1)]
    model = dl.Sequential(*layers)
    path = pytorch_file(tmp_path / "weights.safetensors", prefix)
    model.load_state_dict(load_safetensors(path, prefix=prefix))
    # Row (3, 1): (2, 5), normalized (2.5, 5), 2.5 + 10 + 0.25.
    # Row (0, 2): (-2, -1), normalized (-5.5, -1), cut off, 0.25.
    x = np.array([[3, 1], [0, 2]], np.float32)
    np.testing.assert_array_equal(model(x), [[12.75], [0.25]])
    assert model[1].num_batches_tracked == 8


def test_state_travels_through_a_file(tmp_path):
    model, other = body(), body()
    other.flat[...] = 0
    path = tmp_path / "model.safetensors"
    save_safetensors(model.state_dict(), path)
    state = load_safetensors(str(path))
    assert list(map(np.ndim, state.values())).count(0) == 1  # the number of batches
    other.load_state_dict(state)
    np.testing.assert_array_equal(other(rows()), model(rows()))


def test_any_layout_and_order_of_bytes_is_written_as_its_values(tmp_path):
    matrix = np.arange(6.0).reshape(2, 3)
    state = {
        "transposed": matrix.T,
        "every other": np.arange(10)[::2],
        "swapped": matrix.astype(">f4"),
        "half": matrix.astype(np.float16),
        "flags": matrix > 2,
        "list": [1.5, 2.5],
        "none": np.zeros((0, 3)),
    }
    save_safetensors(state, tmp_path / "a.safetensors")
    read = load_safetensors(tmp_path / "a.safetensors")
    assert set(read) == set(state)
    for name, value in state.items():
        np.testing.assert_array_equal(read[name], value)
        assert read[name].dtype == np.asarray(value).dtype.newbyteorder("=")


def test_float16_is_not_converted_silently(tmp_path):
    model = dl.Sequential(dl.Linear(2, 2))
    state = {name: value.astype(np.float16) for name, value in model.state_dict().items()}
    save_safetensors(state, tmp_path / "half.safetensors")
    with pytest.raises(TypeError, match=r"0\.weight is float16, the model float32"):
        model.load_state_dict(load_safetensors(tmp_path / "half.safetensors"))


def test_bfloat16_is_refused_if_it_is_wanted(tmp_path):
    path = tmp_path / "b.safetensors"
    header = {
        "head.weight": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]},
        "0.weight": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]},
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    with pytest.raises(TypeError, match=r"head\.weight is bfloat16.*tensor\.float\(\)"):
        load_safetensors(path)
    assert load_safetensors(path, prefix="0.")["weight"].tolist() == [0]


def test_wrong_files_and_names(tmp_path):
    path = pytorch_file(tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match=r"begins with 'net\.'; it has 0\.bias, 0\.weight"):
        load_safetensors(path, prefix="net.")
    (tmp_path / "text").write_text("this is no such file")
    with pytest.raises(ValueError, match="text is no safetensors file"):
        load_safetensors(tmp_path / "text")
    with pytest.raises(FileNotFoundError):
        load_safetensors(tmp_path / "nothing")
    with pytest.raises(TypeError, match="b is <U1, not numbers"):
        save_safetensors({"a": np.ones(2), "b": np.array(["x"])}, tmp_path / "new")
    assert not (tmp_path / "new").exists()


# ---- parameters by name, sparsity


def test_parameters_by_name_are_in_the_order_of_the_state():
    model = body()
    own = model.named_parameters()
    for names, wanted in [
        ((), ["0.weight", "0.bias", "1.weight", "1.bias", "3.weight", "3.bias"]),
        (("0",), ["0.weight", "0.bias"]),
        (("3.bias",), ["3.bias"]),
        (("3.weight", "0"), ["0.weight", "0.bias", "3.weight"]),
        (("1", "1.weight", "1"), ["1.weight", "1.bias"]),
    ]:
        got = model.parameters(*names)
        assert len(got) == len(wanted)
        for array, name in zip(got, wanted, strict=True):
            assert np.shares_memory(array, own[name])
            assert array.shape == own[name].shape


@pytest.mark.parametrize("name", ["2", "7", "0.scale", "1.running_mean", ""])
def test_unknown_parameters(name):
    with pytest.raises(ValueError, match=rf"no parameter '{name}'.*0\.weight"):
        body().parameters("0", name)


def test_a_layer_without_parameters_has_none():
    model = dl.Sequential(dl.Linear(2, 2), dl.BatchNorm1d(2, affine=False))
    with pytest.raises(ValueError, match=r"no parameter '1', only 0\.weight, 0\.bias"):
        model.parameters("1")


def test_learning_rates_by_layer():
    model = body()
    before = model.state_dict()
    groups = [
        {"params": model.parameters("0", "1"), "lr": 0.0},
        {"params": model.parameters("3")},
    ]
    optimizer = dl.Adam(groups, lr=1e-2)
    trainer = dl.Trainer(model, loss="cross_entropy", optimizer=optimizer, seed=0)
    trainer.fit(rows(), np.arange(50) % 3, epochs=1, batch_size=50, verbose=0)
    after = model.state_dict()
    for name in ("0.weight", "0.bias", "1.weight", "1.bias"):
        np.testing.assert_array_equal(after[name], before[name])
    # The first update of Adam is the learning rate in the direction of the gradient's sign.
    np.testing.assert_allclose(abs(after["3.bias"] - before["3.bias"]), 1e-2, rtol=1e-3)


def test_some_parameters_for_the_optimizer():
    model = body()
    before = model.state_dict()
    optimizer = dl.SGD(model.parameters("3"), lr=0.1)
    trainer = dl.Trainer(model, loss="cross_entropy", optimizer=optimizer, seed=0)
    trainer.fit(rows(), np.arange(50) % 3, epochs=1, verbose=0)
    after = model.state_dict()
    assert [n for n in before if (after[n] != before[n]).any() and "running" not in n] == [
        *("1.num_batches_tracked", "3.weight", "3.bias")
    ]


def test_sparsity_counts_the_weights_that_are_zero():
    model = trained(dl.Linear(4, 5), dl.BatchNorm1d(5), dl.ReLU(), dl.Linear(5, 2))
    assert model.sparsity() == 0
    model[0].weight[:2] = 0  # 8 of 20
    model[0].weight[3, 3] = -0.0
    model[3].weight[0, 0] = 0  # 1 of 10
    model[3].bias[...] = 0
    model[1].weight[...] = 0
    model[3].weight[1, 1] = 1e-45
    assert model.sparsity() == 10 / 30
    assert model.sparsity(by_layer=True) == {"0": 9 / 20, "3": 1 / 10}
    assert dl.Sequential(dl.ReLU()).sparsity() == 0
    assert dl.Sequential(dl.ReLU()).sparsity(by_layer=True) == {}


@pytest.mark.parametrize("function", [dl.replace_head, dl.fold_batch_norm])
def test_only_models_have_heads_and_norms(function):
    with pytest.raises(TypeError, match="model must be a Sequential, not str"):
        function("model")
