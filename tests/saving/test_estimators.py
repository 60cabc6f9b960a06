"""Estimators in files: they answer and learn on to the same bits; skops trusts them alone."""

import copy
import json
import pickle

import numpy as np
import pytest
from sklearn import preprocessing
from sklearn.pipeline import make_pipeline

import dlcore as dl
from dlcore._common import safetensors
from dlcore.sklearn import MinMaxScaler, MLPClassifier, MLPRegressor, StandardScaler

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 4))
TARGETS = {
    "two": (X[:, 0] > 0).astype(int),
    "texts": np.array(["setosa", "versicolor", "virginica"])[RNG.integers(0, 3, 120)],
    "objects": np.array(["a", "b"], object)[RNG.integers(0, 2, 120)],
    "multilabel": RNG.integers(0, 2, (120, 3)),
    "questions": RNG.integers(0, 3, (120, 2)),
    "numbers": X @ [1.0, 2, 0, -1],
}
CLASSIFIERS = {
    "adam": ("two", {"batch_norm": True, "dropout": 0.2}),
    "adamw": ("texts", {"solver": "adamw", "layer_norm": True, "clip_grad_norm": 1.0}),
    "sgd": ("objects", {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.1}),
    "schedule": ("texts", {"solver": "sgd", "learning_rate": dl.CosineAnnealingLR(9)}),
    "lbfgs": ("two", {"solver": "lbfgs"}),
    "early stopping": ("texts", {"early_stopping": True, "early_stopping_metric": "f1_macro"}),
    "multilabel": ("multilabel", {"activation": ["gelu", "elu"], "hidden_layer_sizes": (6, 5)}),
    "questions": ("questions", {"class_weight": "balanced", "label_smoothing": 0.1}),
    "weights": ("two", {"class_weight": {0: 1.0, 1: np.float64(2.0)}, "random_state": None}),
    "generator": ("two", {"random_state": np.random.RandomState(7)}),
}


def classifier(name):
    target, options = CLASSIFIERS[name]
    made = {"hidden_layer_sizes": (6,), "max_iter": 3, "random_state": 0, **copy.deepcopy(options)}
    return MLPClassifier(**made).fit(X, TARGETS[target]), TARGETS[target]


def through_a_file(estimator, path):
    dl.save(estimator, path)
    return dl.load(path)


def through_a_pickle(estimator, path):
    return pickle.loads(pickle.dumps(estimator))


def through_skops(estimator, path):
    io = pytest.importorskip("skops.io")
    data = io.dumps(estimator)
    types = io.get_untrusted_types(data=data)
    assert [t for t in types if "Schedule" not in t and "_schedules" not in t] == [
        f"{type(estimator).__module__}.{type(estimator).__name__}"
    ]
    return io.loads(data, trusted=types)


def as_text(value):
    return repr(value.tolist() if isinstance(value, np.ndarray) else value)


def check_same(a, b):
    assert type(a) is type(b)
    mine, others = a.get_params(), b.get_params()
    assert {n: as_text(v) for n, v in mine.items() if n != "random_state"} == {
        n: as_text(v) for n, v in others.items() if n != "random_state"
    }
    public = [n for n in vars(a) if n.endswith("_") and n not in ("model_", "_label_binarizer")]
    assert [n for n in vars(b) if n in public or (n.endswith("_") and n != "model_")] == public
    for name in public:
        assert as_text(getattr(a, name)) == as_text(getattr(b, name)), name
    for method in ("predict_proba", "predict", "transform"):
        if hasattr(a, method):
            assert as_text(getattr(a, method)(X)) == as_text(getattr(b, method)(X))


WAYS = {"file": through_a_file, "pickle": through_a_pickle, "skops": through_skops}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers(tmp_path, name, way):
    fitted, y = classifier(name)
    loaded = WAYS[way](fitted, tmp_path / "a")
    check_same(fitted, loaded)
    if name == "weights":  # which draws from NumPy's own generator
        return
    if name not in ("lbfgs", "early stopping", "questions"):
        for _ in range(2):
            for each in (fitted, loaded):
                each.partial_fit(X, y)
            check_same(fitted, loaded)
    again = WAYS[way](loaded, tmp_path / "b")
    for each in (fitted, loaded, again):
        each.set_params(warm_start=True).fit(X, y)
    check_same(fitted, loaded)
    check_same(fitted, again)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "options", [{}, {"solver": "sgd"}, {"loss": "quantile", "quantile": [0.1, 0.9]}]
)
def test_regressors(tmp_path, options, way):
    fitted = MLPRegressor(hidden_layer_sizes=(5,), max_iter=2, random_state=0, **options)
    fitted.fit(X.astype(np.float32), TARGETS["numbers"].astype(np.float32))
    loaded = WAYS[way](fitted, tmp_path / "a")
    for _ in range(2):
        assert as_text(fitted.predict(X)) == as_text(loaded.predict(X))
        for each in (fitted, loaded):
            each.set_params(warm_start=True).fit(X, TARGETS["numbers"])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", [StandardScaler, MinMaxScaler])
@pytest.mark.parametrize("scale", [1.0, 1e-200])
def test_scalers(tmp_path, kind, way, scale):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X * scale, columns=list("abcd"))
    fitted = kind().fit(frame)
    loaded = WAYS[way](fitted, tmp_path / "a")
    for _ in range(2):
        assert as_text(fitted.transform(frame)) == as_text(loaded.transform(frame))
        assert loaded.feature_names_in_.tolist() == list("abcd")
        for each in (fitted, loaded):
            each.partial_fit(frame * 3)


def test_unfitted(tmp_path):
    for made in (MLPClassifier((3, 4), alpha=0.5), StandardScaler(with_mean=False)):
        assert repr(through_a_file(made, tmp_path / "a")) == repr(made)


@pytest.mark.parametrize(
    "scaler", [preprocessing.StandardScaler, preprocessing.MinMaxScaler, StandardScaler]
)
def test_pipelines(tmp_path, scaler):
    y = TARGETS["texts"]
    fitted = make_pipeline(scaler(), MLPClassifier((4,), max_iter=2, random_state=0)).fit(X, y)
    dl.save(fitted, tmp_path / "a", metadata={"scaler": fitted[0]})
    loaded = dl.load(tmp_path / "a")
    assert type(loaded[0]) is scaler
    assert as_text(loaded.predict_proba(X)) == as_text(fitted.predict_proba(X))
    read = dl.load_metadata(tmp_path / "a")["scaler"]
    assert as_text(read.transform(X)) == as_text(fitted[0].transform(X))
    with pytest.raises(TypeError, match=r"\['attributes'\]\['steps'\]\[0\]\[1\] is a RobustScaler"):
        dl.save(make_pipeline(preprocessing.RobustScaler()), tmp_path / "b")


def test_sparse_rows(tmp_path):
    sparse = pytest.importorskip("scipy.sparse")
    rows = sparse.csr_array(np.where(X > 0, X, 0))
    fitted = MLPClassifier((5,), max_iter=2, random_state=0).fit(rows, TARGETS["two"])
    loaded = through_a_file(fitted, tmp_path / "a")
    assert loaded.model_[0].weight.strides == fitted.model_[0].weight.strides
    for _ in range(2):
        assert as_text(fitted.predict_proba(rows)) == as_text(loaded.predict_proba(rows))
        for each in (fitted, loaded):
            each.partial_fit(rows, TARGETS["two"])


class Own(MLPClassifier):
    pass


def test_classes_of_the_users_own(tmp_path):
    fitted = Own((4,), max_iter=2, random_state=0).fit(X, TARGETS["two"])
    dl.save(fitted, tmp_path / "a")
    with pytest.raises(
        ValueError, match=r"a: it holds a Own, a MLPClassifier of your own.*\[Own\]"
    ):
        dl.load(tmp_path / "a")
    with pytest.raises(ValueError, match="Own is no subclass of it"):
        dl.load(tmp_path / "a", classes=[type("Own", (), {})])
    loaded = dl.load(tmp_path / "a", classes=[Own])
    assert type(loaded) is Own
    check_same(loaded, fitted)


def test_functions_are_refused_by_name(tmp_path):
    fitted, _ = classifier("adam")
    fitted.learning_rate = lambda _: 0.1
    with pytest.raises(TypeError, match=r"\['attributes'\]\['learning_rate'\] is a function"):
        dl.save(fitted, tmp_path / "a")


def test_the_weights_are_named(tmp_path):
    fitted, _ = classifier("adam")
    dl.save(fitted, tmp_path / "a")
    arrays, _ = safetensors.read(tmp_path / "a")
    assert "attributes.model_.0.weight" in arrays


CHANGES = {
    "unknown class": (lambda o: o.update({"$object": "os.system"}), "it holds a os.system"),
    "no attributes": (lambda o: o.update(state=[]), "the state of a MLPClassifier is a list"),
    "attributes": (lambda o: o["state"].update(attributes=3), "are a int"),
    "method": (
        lambda o: o["state"]["attributes"].update(predict=3),
        "a predict that cannot be set",
    ),
    "dunder": (
        lambda o: o["state"]["attributes"].update(__class__="x"),
        "no attribute '__class__'",
    ),
    "parameter": (
        lambda o: o["state"]["attributes"].update(alpha="x"),
        "'alpha' parameter of MLPC",
    ),
    "missing": (
        lambda o: o["state"]["attributes"].pop("n_outputs_"),
        "can be made of its state.*n_outputs_",
    ),
    "width": (lambda o: o["state"]["attributes"].update(n_features_in_=9), "n_features_in_ is 9"),
    "classes": (lambda o: o["state"]["attributes"].update(classes_=[]), "classes_ are 0"),
    "model": (lambda o: o["state"]["attributes"].update(model_=3), "model_ is a int"),
    "optimizer": (
        lambda o: o["state"]["attributes"]["_optimizer"]["param_groups"][0].update(lr=-1.0),
        "lr must be",
    ),
    "position": (
        lambda o: o["state"]["attributes"]["_random_state"]["state"]["state"].update(pos=10**6),
        "not that of MT19937",
    ),
    "parameters by default": (lambda o: o["state"]["attributes"].pop("focal_gamma"), None),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_wrong_is_named(tmp_path, name):
    change, message = CHANGES[name]
    path = tmp_path / "file"
    fitted, _ = classifier("early stopping")
    dl.save(fitted, path)
    arrays, texts = safetensors.read(path)
    document = json.loads(texts["dlcore"])
    change(document["state"])
    kept = {n: a for n, a in arrays.items() if json.dumps(n) in json.dumps(document)}
    safetensors.write(path, kept, {"dlcore": json.dumps(document)}, least=path.stat().st_size)
    if message is None:
        check_same(dl.load(path), fitted)
        return
    with pytest.raises(ValueError, match=f"file(:| is damaged:) .*{message}"):
        dl.load(path)
