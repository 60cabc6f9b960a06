"""Networks in files: every layer, both dtypes, classes of the user's own, metadata; what is refused."""

import copy
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dlcore as dl
from dlcore._common import safetensors
from dlcore.nn._layers import ACTIVATIONS, LAYERS

DTYPES = [np.float32, np.float64]


def layers_of(width):
    """Every layer, with every option other than by default."""
    return [
        dl.Linear(width, width, max_norm=2.5),
        dl.Linear(width, width, bias=False),
        dl.BatchNorm1d(width, eps=1e-3, momentum=None),
        dl.BatchNorm1d(width, affine=False, momentum=0.25),
        dl.LayerNorm(width, eps=1e-4, bias=False),
        dl.LayerNorm(width, elementwise_affine=False),
        dl.RMSNorm(width),
        dl.RMSNorm(width, eps=0.1, elementwise_affine=False),
        dl.Dropout(0.125),
        dl.LeakyReLU(0.2),
        dl.ELU(1.5),
        dl.GELU("tanh"),
        dl.Softplus(2.0, 10.0),
        dl.Softplus(threshold=np.inf),
        dl.Residual(dl.Linear(width, width), dl.Residual(dl.Linear(width, width, bias=False))),
        dl.Parallel(
            [dl.Linear(width, width), dl.BatchNorm1d(width)],
            dl.Linear(1, width),
            columns=[slice(0, width), slice(width - 1, width)],
            join="sum",
        ),
        dl.Scale(width),
        dl.PReLU(width, init=0.5),
        dl.ParametricActivation(width, "tanh", init=0.5),
        dl.LinearEmbeddings(width, 1),
        dl.NLinear(width, 1, 1, bias=False, shared=True),
        dl.Periodic(width, 1, 0.5, bias=True),
        dl.PeriodicEmbeddings(width, 1, n_frequencies=3, lite=True, missing=True),
        dl.PiecewiseLinearEmbeddings([[0, 1, 2]] * width, 1, activation=True, version="A"),
        dl.Residual(dl.PBLDEmbeddings(width, 2, activation=True), dl.Linear(2 * width, width)),
        dl.LinearBatchEnsemble(width, width, 2, scaling_init="normal", chunks=[width]),
        dl.LinearEnsemble(width, width, 2, bias=False),
        dl.ScaleEnsemble(2, width, init="ones"),
        *(kind() for kind in ACTIVATIONS.values()),
    ]


def layers_of_codes(width):
    """The layers that take codes of categories, and so can only come first."""
    return [
        dl.Parallel(dl.Embedding(4, width), columns=[(0, 1)], in_features=width),
        dl.CategoricalEmbeddings([4], 2, columns=[0], in_features=width, missing="zeros"),
        dl.OneHotLinear([4] * width, width, bias=False, missing="category"),
    ]


EACH = [*layers_of(3), *layers_of_codes(3)]


def drawn(model, seed):
    """Give all arrays of a model other values."""
    rng = np.random.default_rng(seed)
    state = model.state_dict()
    for name, value in state.items():
        if value.dtype.kind == "i":
            state[name] = np.array(rng.integers(100))
        else:
            state[name] = rng.uniform(0.1, 2, value.shape).astype(value.dtype)
    model.load_state_dict(state)
    return model


def check_same(a, b):
    assert repr(a) == repr(b)
    assert a.dtype == b.dtype
    assert a.frozen == b.frozen
    mine, others = a.state_dict(), b.state_dict()
    assert list(mine) == list(others)
    for name, value in mine.items():
        assert value.tobytes() == others[name].tobytes()
        assert value.dtype == others[name].dtype


def travelled(model, path, **options):
    dl.save(model, path)
    loaded = dl.load(path, **options)
    check_same(model, loaded)
    return loaded


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("i", range(len(EACH)), ids=lambda i: repr(EACH[i]))
def test_each_layer_and_its_options(tmp_path, i, dtype):
    layer = [*layers_of(3), *layers_of_codes(3)][i]
    model = drawn(dl.Sequential(layer, dtype=dtype, seed=0), i)
    loaded = travelled(model, tmp_path / "a")
    assert type(loaded[0]) is type(layer)
    assert loaded[0]._options == layer._options
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(dtype)
    x = x.round() % 4 if i >= len(layers_of(3)) else x  # codes
    assert loaded(x).tobytes() == model(x).tobytes()
    assert loaded.forward(x).tobytes() == model.forward(x).tobytes()


def test_every_layer_is_among_them():
    names = {type(layer).__name__ for layer in [*layers_of(2), *layers_of_codes(2)]}
    assert names | {"EnsembleMean", "Embedding", "PBLDEmbeddings"} == set(LAYERS)


def test_the_mean_of_members(tmp_path):
    model = dl.Sequential(dl.LinearEnsemble(3, 2, 4), dl.EnsembleMean("sigmoid"), seed=0)
    loaded = travelled(model, tmp_path / "a")
    x = np.ones((2, 3), np.float32)
    assert loaded(x).tobytes() == model(x).tobytes()


@st.composite
def networks(draw):
    width = draw(st.integers(1, 6))
    layers = []
    for _ in range(draw(st.integers(1, 5))):
        if draw(st.booleans()):
            out = draw(st.integers(1, 6))
            layers.append(dl.Linear(width, out, draw(st.booleans())))
            width = out
        else:
            plain = [n for n in layers_of(width) if n._members_after(1) == 1]
            layers.append(draw(st.sampled_from(plain)))
            if isinstance(layers[-1], dl.Linear) or layers[-1]._parameter_shapes:
                layers[-1] = copy.deepcopy(layers[-1])
    model = dl.Sequential(*layers, dtype=draw(st.sampled_from(DTYPES)), seed=0)
    names = sorted(model.state_dict())
    for name in draw(st.lists(st.sampled_from(names), max_size=3)) if names else []:
        model.freeze(name)
    return drawn(model, draw(st.integers(0, 9)))


@given(networks())
def test_random_networks(tmp_path_factory, model):
    travelled(model, tmp_path_factory.getbasetemp() / "network")


def test_a_loaded_model_trains_to_the_same_bits(tmp_path):
    layers = dl.Linear(4, 8), dl.BatchNorm1d(8), dl.ReLU(), dl.Dropout(0.3), dl.Linear(8, 2)
    model = dl.Sequential(dl.Sequential(*layers[:3]), *layers[3:], seed=0)
    model.freeze("1")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 4)).astype(np.float32), rng.integers(0, 2, 60)
    model.forward(x)  # what is dropped next goes on from here, too
    loaded = travelled(model, tmp_path / "a")
    assert loaded.forward(x).tobytes() == model.forward(x).tobytes()
    for one in (model, loaded):
        dl.Trainer(one, loss="cross_entropy", seed=0).fit(x, y, epochs=2, verbose=0)
    check_same(model, loaded)
    check_same(travelled(model[1:4], tmp_path / "part"), model[1:4])


def test_the_library_reads_the_weights(tmp_path):
    library = pytest.importorskip("safetensors.numpy")
    model = drawn(dl.Sequential(dl.Linear(3, 2), dl.BatchNorm1d(2), seed=0), 0)
    dl.save(model, tmp_path / "a.safetensors", metadata={"mean": np.ones(3)})
    read = library.load_file(tmp_path / "a.safetensors")
    state = model.state_dict()
    assert set(read) == {*state, "metadata.mean"}
    for name, value in state.items():
        np.testing.assert_array_equal(read[name], value)
    loaded = dl.load_safetensors(tmp_path / "a.safetensors")
    model.load_state_dict({name: value for name, value in loaded.items() if name in state})


class Head(dl.Linear):
    def __init__(self, in_features, *, classes):
        super().__init__(in_features, len(classes), max_norm=3.0)
        self.classes = classes


class Steep(dl.LeakyReLU):
    pass


def test_classes_of_the_users_own(tmp_path):
    path = tmp_path / "a"
    model = dl.Sequential(dl.Linear(3, 4), Steep(0.5), Head(4, classes=["a", "b"]), seed=0)
    loaded = travelled(model, path, classes=[Steep, Head])
    assert type(loaded[1]) is Steep
    assert loaded[1].negative_slope == 0.5
    assert type(loaded[2]) is Head
    assert loaded[2].classes == ["a", "b"]
    assert loaded[2].max_norm == 3
    with pytest.raises(
        ValueError, match=r"a: layer 1 is a Steep, a LeakyReLU of your own.*\[Steep\]"
    ):
        dl.load(path)

    class Head2(dl.ReLU):
        pass

    Head2.__name__ = "Head"
    with pytest.raises(ValueError, match="layer 2 is a Linear, but Head is no subclass of it"):
        dl.load(path, classes=[Steep, Head2])
    with pytest.raises(TypeError, match="classes must hold classes, not 'Head'"):
        dl.load(path, classes=["Head"])
    model[2].check = print
    with pytest.raises(TypeError, match=r"\['attributes'\]\['check'\] is a builtin"):
        dl.save(model, path)
    del model[2].check
    model[2]._settings_seen = 1
    model[2].__dict__["bias"] = 3
    with pytest.raises(TypeError, match="a Head has an attribute bias of its own"):
        dl.save(model, path)


def test_metadata_comes_back(tmp_path):
    path, rng = tmp_path / "a", np.random.default_rng(0)
    x = rng.normal(3, 2, (50, 4))
    normalizer = dl.ZScoreNormalizer().fit(x)
    given = {
        "classes": np.array(["setosa", "virginica"]),
        "features": ("length", "width"),
        "normalizer": normalizer,
        "ensemble": [dl.Sequential(dl.Linear(2, 1), seed=i) for i in range(2)],
        "accuracy": 0.97,
        3: None,
    }
    model = dl.Sequential(dl.Linear(4, 2), seed=0)
    dl.save(model, path, metadata=given)
    read = dl.load_metadata(path)
    check_same(dl.load(path), model)
    assert list(read) == list(given)
    assert read["classes"].tolist() == ["setosa", "virginica"]
    assert read["features"] == ("length", "width")
    assert read["normalizer"].transform(x).tobytes() == normalizer.transform(x).tobytes()
    for one, other in zip(read["ensemble"], given["ensemble"], strict=True):
        check_same(one, other)
    dl.save(model, path)
    assert dl.load_metadata(path) == {}
    with pytest.raises(TypeError, match="metadata must be a dict, not list"):
        dl.save(model, path, metadata=[])


def test_another_process_needs_nothing_but_the_file(tmp_path):
    model = drawn(dl.Sequential(*layers_of(3), dtype=np.float64), 0)
    dl.save(model, tmp_path / "a")
    code = (
        f"import sys, dlcore as dl, numpy as np; model = dl.load({str(tmp_path / 'a')!r}); "
        "print(model(np.linspace(-1, 1, 12).reshape(4, 3)).tobytes().hex(), 'sklearn' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    x = np.linspace(-1, 1, 12).reshape(4, 3)
    assert run.stdout.split() == [model(x).tobytes().hex(), "False"]


@pytest.mark.parametrize(
    ("obj", "message"),
    [
        (3, "a int has no form in a file.*Trainer.save"),
        (type("Net", (dl.Sequential,), {})(dl.ReLU()), "Net is a subclass of Sequential"),
        (dl.ReLU(), "a ReLU has no form"),
    ],
)
def test_what_cannot_be_saved(tmp_path, obj, message):
    with pytest.raises(TypeError, match=message):
        dl.save(obj, tmp_path / "a")
    assert not (tmp_path / "a").exists()


# ---- files that were changed


def changed(path, change):
    """Change the state that a file has, and its arrays."""
    arrays, texts = safetensors.read(path)
    document = json.loads(texts["dlcore"])
    change(document["state"]["state"], arrays)
    safetensors.write(path, arrays, {"dlcore": json.dumps(document)})


def set_layer(i, **changes):
    return lambda state, _: state["layers"][i].update(changes)


def set_state(**changes):
    return lambda state, _: state.update(changes)


def set_array(name, value):
    return lambda _, arrays: arrays.update({name: value})


def without(state, arrays):
    del state["0.bias"], arrays["0.bias"]


HUGE = {"in_features": 2**40, "out_features": 2, "bias": True, "max_norm": None}
CHANGES = {
    "unknown layer": (
        set_layer(0, **{"class": "Conv2d"}),
        "layer 0 is a 'Conv2d', which this version",
    ),
    "class is no text": (set_layer(0, **{"class": 3}), "layer 0 is a 3, which"),
    "no options": (set_layer(1, options=[]), "layer 1, a BatchNorm1d, has wrong options"),
    "unknown option": (
        set_layer(2, options={"alpha": 1.0}),
        "layer 2, a ReLU, has wrong options.*alpha",
    ),
    "wrong option": (
        set_layer(1, options={"num_features": -1}),
        "layer 1.*wrong options.*positive",
    ),
    "option of another type": (
        set_layer(0, options={"in_features": 3, "out_features": 2, "bias": "no", "max_norm": None}),
        "layer 0, a Linear, has wrong options",
    ),
    "missing option": (set_layer(1, options={"num_features": 2}), "layer 1.*has wrong options"),
    "huge": (
        set_layer(0, options=HUGE),
        r"0\.weight has shape \(2, 3\), the model's \(2, 1099511627776",
    ),
    "widths": (set_layer(1, options=dl.BatchNorm1d(7)._options), "takes 7 features"),
    "more of a layer": (set_layer(0, code="print()"), "layer 0 is no class with options"),
    "no layers": (set_state(layers=[]), "at least one layer"),
    "layers": (set_state(layers={}), "no list of layers"),
    "dtype": (set_state(dtype="float16"), "dtype is 'float16'"),
    "other dtype": (set_state(dtype="float64"), r"0\.weight is float32, not float64"),
    "frozen": (set_state(frozen=["9.weight"]), r"'9\.weight' is frozen, but not in the model"),
    "frozen is a text": (set_state(frozen="0"), "what is frozen are names"),
    "key": (set_state(key=-1), "the key of what layers draw is -1"),
    "missing": (without, r"0\.bias is missing"),
    "missing tensor": (
        lambda _, arrays: arrays.pop("0.bias"),
        r"its array '0\.bias' is missing",
    ),
    "more": (set_state(**{"5.weight": 1.0}), r"5\.weight is no array"),
    "shape": (
        set_array("0.bias", np.zeros(3, np.float32)),
        r"0\.bias has shape \(3,\), the model's",
    ),
    "array's dtype": (set_array("0.bias", np.zeros(2)), r"0\.bias is float64, not float32"),
    "counter": (
        set_array("1.num_batches_tracked", np.array(1, np.int32)),
        r"1\.num_batches_tracked is int32, not int64",
    ),
    "another array": (set_array("x", np.zeros(3)), "nothing refers to its array 'x'"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_wrong_is_named(tmp_path, name):
    change, message = CHANGES[name]
    path = tmp_path / "file"
    dl.save(dl.Sequential(dl.Linear(3, 2), dl.BatchNorm1d(2), dl.ReLU(), seed=0), path)
    changed(path, change)
    with pytest.raises(ValueError, match=f"file(:| is damaged:) .*{message}"):
        dl.load(path)


def test_other_files(tmp_path):
    path = tmp_path / "file"
    dl.save_safetensors({"0.weight": np.zeros(3)}, path)
    with pytest.raises(ValueError, match="file: it was not written by dlcore"):
        dl.load(path)
    path.write_bytes(b"\x80\x04N.")
    with pytest.raises(ValueError, match="file is no safetensors file"):
        dl.load(path)
    with pytest.raises(FileNotFoundError):
        dl.load(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="could not be written"):
        dl.save(dl.Sequential(dl.ReLU()), tmp_path / "none" / "file")
