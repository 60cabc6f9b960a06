"""ONNX Runtime computes what dlcore does."""

import os
import subprocess
import sys

import numpy as np
import pytest

import dlcore as dl
from dlcore.nn._layers import ACTIVATIONS
from support.exported import error, make_rows, outputs_of, random_network

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
estimators = pytest.importorskip("dlcore.sklearn", exc_type=ImportError)

NETWORKS = int(os.environ.get("DLCORE_NETWORKS", "40"))


@pytest.mark.parametrize("seed", range(NETWORKS))
def test_random_networks(seed):
    model, x = random_network(seed)
    y = outputs_of(dl.to_onnx(model, fold_batch_norm=seed % 3 == 0), x)["variable"]
    assert error(y, model(x)) < 1e-6


@pytest.mark.parametrize("seed", range(100, 110))
def test_random_networks_of_float64(seed):
    model, x = random_network(seed, np.float64)
    if any(layer == dl.GELU() for layer in model.layers):
        with pytest.raises(TypeError, match=r'GELU of float64 has no export.*dtype="float32"'):
            dl.to_onnx(model)
    else:
        assert error(outputs_of(dl.to_onnx(model), x)["variable"], model(x)) < 1e-13
    narrow = dl.to_onnx(model, dtype="float32")
    assert error(outputs_of(narrow, x.astype(np.float32))["variable"], model(x)) < 1e-4


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ACTIVATIONS.values())
def test_activations(kind, dtype):
    if kind is dl.GELU and dtype == np.float64:
        kind = lambda: dl.GELU("tanh")
    model = dl.Sequential(kind(), dtype=dtype)
    x = np.linspace(-30, 30, 601, dtype=dtype)[:, np.newaxis]
    proto = dl.to_onnx(model)
    shape = proto.graph.input[0].type.tensor_type.shape.dim
    assert not shape[1].HasField("dim_value")  # any number of features
    limit = 2e-7 if dtype == np.float32 else 1e-14
    y, expected = outputs_of(proto, x)["variable"], model(x)
    assert np.max(np.abs(y - expected) / np.maximum(1, np.abs(x))) < limit


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("missing", ["error", "category", "zeros"])
@pytest.mark.parametrize("kind", ["one", "columns", "one-hot"])
def test_categories(kind, missing, dtype):
    first = {
        "one": lambda: dl.Embedding(5, 4, missing=missing),
        "columns": lambda: dl.CategoricalEmbeddings(
            [5, 3], [4, 2], columns=[2, 0], in_features=4, missing=missing
        ),
        "one-hot": lambda: dl.OneHotLinear([3, 5], 4, bias=missing == "error", missing=missing),
    }[kind]()
    model = dl.Sequential(first, dl.ReLU(), dl.Linear(first.out_features, 2), dtype=dtype, seed=0)
    rng = np.random.default_rng(0)
    x = rng.integers(3, size=(20, first.in_features)).astype(dtype)
    if kind == "columns":
        x[:, 3] = rng.normal(size=20)
    if missing != "error":
        x[rng.random(x.shape) < 0.3] = np.nan
        x[:, 1:4:2] = np.nan_to_num(x[:, 1:4:2]) if kind == "columns" else x[:, 1:4:2]
    y = outputs_of(dl.to_onnx(model), x)["variable"]
    assert error(y, model(x)) < (1e-6 if dtype == np.float32 else 1e-14)
    for bad in (-1, 5):
        x[7, -1 if kind == "one-hot" else 2 * (kind == "columns")] = bad
        with pytest.raises(Exception, match="out of"):
            outputs_of(dl.to_onnx(model), x)


LABELS = {
    "numbers": np.array([3, 5, 9]),
    "text": np.array(["green", "blue", "rot ö"]),
    "objects": np.array(["green", "blue", "red"], object),
    "two": np.array([-1, 1]),
    "two words": np.array(["no", "yes"]),
    "booleans": np.array([False, True]),
    "floats": np.array([0.0, 1.0, 2.0]),
    "one": np.array([7]),
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_classifiers_in_a_pipeline(labels, dtype):
    from sklearn.pipeline import make_pipeline

    x, rng = make_rows(dtype=dtype)
    y = labels[rng.integers(len(labels), size=len(x))]
    network = estimators.MLPClassifier(
        (16, 8), ["tanh", "silu"], batch_norm=True, dropout=0.1, max_iter=8, random_state=0
    )
    pipeline = make_pipeline(estimators.StandardScaler(), "passthrough", network).fit(x, y)
    found = outputs_of(dl.to_onnx(pipeline), x)
    assert list(found) == ["label", "probabilities"]
    assert np.array_equal(found["label"], pipeline.predict(x))
    limit = 2e-6 if dtype == np.float32 else 1e-13
    p = pipeline.predict_proba(x)
    np.testing.assert_allclose(found["probabilities"], p, rtol=limit)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_labels_of_several_columns():
    x, rng = make_rows()
    network = estimators.MLPClassifier((12,), max_iter=5, random_state=0)
    indicators = rng.integers(2, size=(len(x), 3))
    network.fit(x, indicators)
    found = outputs_of(dl.to_onnx(network), x)
    assert np.array_equal(found["label"], network.predict(x))
    np.testing.assert_allclose(found["probabilities"], network.predict_proba(x), rtol=2e-6)
    many = np.stack([rng.integers(3, size=len(x)), rng.integers(10, 14, size=len(x))], axis=1)
    network.fit(x, many)
    found = outputs_of(dl.to_onnx(network), x)
    assert list(found) == ["label", "probabilities_0", "probabilities_1"]
    assert np.array_equal(found["label"], network.predict(x))
    for i, p in enumerate(network.predict_proba(x)):
        np.testing.assert_allclose(found[f"probabilities_{i}"], p, rtol=2e-6, atol=1e-37)


REGRESSORS = {
    "one": {},
    "two": {},
    "poisson": {"loss": "poisson"},
    "quantiles": {"loss": "quantile", "quantile": [0.9, 0.1, 0.5]},
    "clipped": {"clip_outputs": True},
    "clipped poisson": {"loss": "poisson", "clip_outputs": True},
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("scaler", ["own", "scikit-learn's"])
@pytest.mark.parametrize("name", REGRESSORS)
def test_regressors_in_a_pipeline(name, scaler):
    from sklearn import preprocessing
    from sklearn.pipeline import make_pipeline

    x, rng = make_rows()
    y = rng.poisson(3, (len(x), 2) if name == "two" else len(x)).astype(float)
    module = estimators if scaler == "own" else preprocessing
    scalers = [module.MinMaxScaler((-1, 2), clip=True), module.StandardScaler()]
    network = estimators.MLPRegressor(
        hidden_layer_sizes=(16,), activation="elu", max_iter=8, random_state=0, **REGRESSORS[name]
    )
    pipeline = make_pipeline(*scalers, network).fit(x, y)
    found = outputs_of(dl.to_onnx(pipeline), 2 * x)["variable"]
    expected = pipeline.predict(2 * x).reshape(len(x), -1)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-6)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("columns", [1, 2])
def test_scaled_targets_are_brought_back(columns):
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.pipeline import make_pipeline

    x, rng = make_rows(dtype=np.float64)
    y = rng.normal(1e4, 300, (len(x), columns))[:, slice(None) if columns > 1 else 0]
    for clip in (False, True):
        network = make_pipeline(
            estimators.StandardScaler(),
            estimators.MLPRegressor(max_iter=5, random_state=0, clip_outputs=clip),
        )
        transformer = estimators.StandardScaler()
        model = TransformedTargetRegressor(network, transformer=transformer).fit(x, y)
        found = outputs_of(dl.to_onnx(model), 9 * x)["variable"]
        np.testing.assert_allclose(found, model.predict(9 * x).reshape(len(x), -1), rtol=1e-13)


def test_normalizers_before_a_network():
    """Of 1e8 +- 1 nothing is lost, since columns are mapped in float64 and rounded once."""
    x, rng = make_rows(dtype=np.float32)
    x[:, 0] = 1e8 + 64 * rng.integers(-3, 4, len(x))
    model = dl.Sequential(dl.Linear(6, 4), dl.Tanh(), dl.Linear(4, 2), seed=0)
    for normalizer in (dl.ZScoreNormalizer(), dl.MinMaxNormalizer((-1, 1), clip=True)):
        normalizer.fit(x)
        found = outputs_of(dl.to_onnx([normalizer, model]), x)["variable"]
        assert error(found, model(normalizer.transform(x))) < 1e-6


def test_outputs_of_a_network_get_a_meaning():
    x, _ = make_rows()
    model = dl.Sequential(dl.LayerNorm(6), dl.Linear(6, 3), seed=0)
    found = outputs_of(dl.to_onnx(model, output="softmax", classes=["a", "b", "c"]), x)
    logits = model(x)
    assert np.array_equal(found["label"], np.array(["a", "b", "c"])[logits.argmax(1)])
    np.testing.assert_allclose(found["probabilities"], dl.softmax(logits), rtol=1e-6)
    assert outputs_of(dl.to_onnx(model, output="softmax"), x)["label"].dtype == np.int64
    found = outputs_of(dl.to_onnx(model, output="sigmoid"), x)
    np.testing.assert_allclose(found["probabilities"], dl.sigmoid(logits), rtol=2e-6)
    assert np.array_equal(found["label"], logits > 0)
    found = outputs_of(dl.to_onnx(model, output="exp"), x)["variable"]
    np.testing.assert_allclose(found, np.exp(logits), rtol=2e-6)
    one = dl.Sequential(dl.LayerNorm(6), dl.Linear(6, 1), seed=0)
    found = outputs_of(dl.to_onnx(one, output="sigmoid", classes=["no", "yes"]), x)
    assert np.array_equal(found["label"], np.where(one(x)[:, 0] > 0, "yes", "no"))


def test_small_probabilities_keep_their_digits():
    model = dl.Sequential(dl.Linear(1, 1, bias=False))
    model[0].weight[...] = 1
    x = np.array([[-80.0], [-40.0], [-1e-8], [0.0], [1e-8], [40.0], [80.0]], np.float32)
    p = outputs_of(dl.to_onnx(model, output="sigmoid"), x)["probabilities"]
    np.testing.assert_allclose(p[:, 1], 1 / (1 + np.exp(-x[:, 0].astype(float))), rtol=1e-6)
    np.testing.assert_allclose(p[:, 0], p[::-1, 1])


def test_what_the_file_says(tmp_path):
    path = tmp_path / "model.onnx"
    model = dl.Sequential(dl.Linear(4, 3), dl.BatchNorm1d(3), dl.Dropout(), dl.ReLU(), seed=0)
    proto = dl.to_onnx(model, path)
    loaded = onnx.load(path)
    assert loaded == proto
    assert (loaded.producer_name, loaded.producer_version) == ("dlcore", dl.__version__)
    assert {p.key: p.value for p in loaded.metadata_props}["dlcore.version"] == dl.__version__
    assert [(i.domain, i.version) for i in loaded.opset_import] == [("", 13)]
    assert loaded.ir_version == 7
    assert loaded.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    folded = dl.to_onnx(model, fold_batch_norm=True)
    operators = [node.op_type for node in folded.graph.node]
    assert operators == ["Gemm", "Relu", "Identity"]
    x = np.ones((0, 4), np.float32)
    assert outputs_of(proto, x)["variable"].shape == (0, 3)


@pytest.mark.parametrize("opset", range(13, 22))
def test_later_versions_of_the_operators(opset):
    model = dl.Sequential(dl.Linear(4, 3), dl.LayerNorm(3), dl.ELU(), seed=0)
    x = np.ones((2, 4), np.float32)
    proto = dl.to_onnx(model, output="softmax", classes=["a", "b", "c"], opset=opset)
    np.testing.assert_allclose(
        outputs_of(proto, x)["probabilities"], dl.softmax(model(x)), rtol=1e-6
    )


def test_names_of_features_are_kept():
    pandas = pytest.importorskip("pandas")
    from sklearn.pipeline import make_pipeline

    x, rng = make_rows(features=2)
    frame = pandas.DataFrame(x, columns=["length", "width"])
    scaler, network = estimators.StandardScaler(), estimators.MLPRegressor(tol=1, max_iter=20)
    pipeline = make_pipeline(scaler, network).fit(frame, rng.normal(size=len(x)))
    properties = {p.key: p.value for p in dl.to_onnx(pipeline).metadata_props}
    assert properties["dlcore.feature_names"].split("\n") == ["length", "width"]


# ---- bad input


def small():
    return dl.Sequential(dl.Linear(4, 3), seed=0)


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    with pytest.raises(ValueError, match=r"path must end in \.onnx, not .*model\.pb"):
        dl.to_onnx(small(), tmp_path / "model.pb")
    path = tmp_path / "folder" / "model.onnx"
    with pytest.raises(OSError, match="could not be written"):
        dl.to_onnx(small(), path)
    path = tmp_path / "model.onnx"
    dl.to_onnx(small(), path)
    before = path.read_bytes()
    with pytest.raises(TypeError, match="no export"):
        dl.to_onnx(object(), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]


def test_what_has_no_export_is_named():
    from sklearn import dummy, neural_network, preprocessing
    from sklearn.exceptions import NotFittedError
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline

    x, rng = make_rows()
    y = rng.integers(2, size=len(x))
    own = estimators.MLPClassifier(max_iter=400, tol=1, random_state=0)
    with pytest.raises(NotFittedError):
        dl.to_onnx(own)
    own.fit(x, y)
    with pytest.raises(TypeError, match="RobustScaler has no export; before the network go"):
        dl.to_onnx(make_pipeline(preprocessing.RobustScaler(), own).fit(x, y))
    for other in (
        neural_network.MLPClassifier(max_iter=400, tol=1, random_state=0),
        dummy.DummyClassifier(),
    ):
        with pytest.raises(TypeError, match=rf"{type(other).__name__} has no export; it takes"):
            dl.to_onnx(other.fit(x, y))
    with pytest.raises(TypeError, match="StandardScaler alone has no export; pass the pipeline"):
        dl.to_onnx(estimators.StandardScaler().fit(x))
    with pytest.raises(TypeError, match="GridSearchCV has no export; pass its best_estimator_"):
        dl.to_onnx(GridSearchCV(own, {"alpha": [0.1]}, cv=2).fit(x, y))
    with pytest.raises(TypeError, match=r"Trainer has no export; pass its model: trainer.model"):
        dl.to_onnx(dl.Trainer(small(), loss="mse"))
    with pytest.raises(TypeError, match="before a network go MinMaxNormalizer, ZScore"):
        dl.to_onnx([small(), small()])
    with pytest.raises(ValueError, match="ZScoreNormalizer is not fitted yet; call fit first"):
        dl.to_onnx([dl.ZScoreNormalizer(), small()])
    with pytest.raises(ValueError, match="6 columns, but what follows takes 4 features"):
        dl.to_onnx([dl.ZScoreNormalizer().fit(x), small()])
    with pytest.raises(ValueError, match="near the limits of float64"):
        dl.to_onnx([dl.ZScoreNormalizer().fit(1e-300 * x[:, :4].astype(float)), small()])
    with pytest.raises(ValueError, match="the estimator says what its outputs mean"):
        dl.to_onnx(own, output="softmax")


def test_what_a_file_cannot_hold_is_said(monkeypatch):
    from dlcore.export import _onnx_graph

    monkeypatch.setattr(_onnx_graph, "MOST_BYTES", 59)
    with pytest.raises(ValueError, match="the parameters take 60 bytes, but a file of ONNX holds"):
        dl.to_onnx(small())


def test_arguments_out_of_range():
    for options, message in [
        (
            {"output": "argmax"},
            "output is one of 'identity', 'softmax', 'sigmoid', 'exp', not 'arg",
        ),
        ({"classes": ["a", "b", "c"]}, "output is one of .* not None with classes"),
        ({"output": "softmax", "classes": ["a", "b"]}, "classes must have 3 labels, got 2"),
        ({"output": "exp", "classes": ["a", "b"]}, "classes are for a softmax"),
        ({"output": "softmax", "classes": np.ones((3, 1))}, "one dimension, got the shape"),
        ({"opset": 12}, "opset must be an integer and at least 13, not 12"),
        ({"opset": 99}, "opset 99 is not known to onnx"),
    ]:
        with pytest.raises(ValueError, match=message):
            dl.to_onnx(small(), **options)
    dates = np.array(["2020-01-01"] * 3, "datetime64[D]")
    with pytest.raises(TypeError, match=r"labels of datetime64.* have no export"):
        dl.to_onnx(small(), output="softmax", classes=dates)
    with pytest.raises(TypeError, match="dtype must be float32 or float64, not float16"):
        dl.to_onnx(small(), dtype=np.float16)
    with pytest.raises(TypeError, match="fold_batch_norm must be True or False"):
        dl.to_onnx(small(), fold_batch_norm="yes")


def test_onnx_is_imported_when_it_is_needed():
    code = (
        "import sys, dlcore as dl\n"
        "assert not {'onnx', 'dlcore.export._description'} & set(sys.modules)\n"
        "sys.modules['onnx'] = None\n"
        "try:\n"
        "    dl.to_onnx(dl.Sequential(dl.ReLU()))\n"
        "except ImportError as error:\n"
        "    assert str(error).endswith(\"pip install 'dlcore-kernels[onnx]'\"), error\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
