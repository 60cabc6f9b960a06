"""Several networks that predict by their mean, in ONNX and in C."""

import numpy as np
import pytest

import dlcore as dl
from support.c_compiler import Library
from support.exported import error, make_rows, outputs_of

pytest.importorskip("onnxruntime")
estimators = pytest.importorskip("dlcore.sklearn", exc_type=ImportError)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

TARGETS = {
    "two": lambda rng: rng.choice(["no", "yes"], 120),
    "three": lambda rng: rng.integers(3, size=120),
    "labels": lambda rng: rng.integers(2, size=(120, 3)),
    "questions": lambda rng: np.stack([rng.integers(n, size=120) for n in (3, 4)], axis=1),
    "values": lambda rng: rng.normal(size=(120, 2)),
    "counts": lambda rng: rng.poisson(3, 120).astype(float),
    "quantiles": lambda rng: rng.normal(size=120),
}
OPTIONS = {"counts": {"loss": "poisson"}, "quantiles": {"loss": "quantile", "quantile": [0.9, 0.1]}}


@pytest.mark.parametrize("target", TARGETS)
def test_estimators_of_members(target, tmp_path):
    x, rng = make_rows()
    x = ((x - x.mean(axis=0)) / x.std(axis=0)).astype(np.float32)
    y = TARGETS[target](rng)
    is_class = target in ("two", "three", "labels", "questions")
    kind = estimators.MLPClassifier if is_class else estimators.MLPRegressor
    options = {"hidden_layer_sizes": (9,), "members": 3, "max_iter": 4, "random_state": 0}
    model = kind(**options | OPTIONS.get(target, {})).fit(x, y)
    found = outputs_of(dl.to_onnx(model), x)
    library = Library(dl.to_c(model, "net"), tmp_path)
    if not is_class:
        expected = model.predict(x).reshape(len(x), -1)
        np.testing.assert_allclose(found["variable"], expected, rtol=1e-5, atol=2e-6)
        y = library.rows("predict", x, expected.shape[1])
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=5e-6)
        return
    assert np.array_equal(found["label"], model.predict(x))
    p = model.predict_proba(x)
    p = np.hstack(p) if isinstance(p, list) else p
    of_runtime = np.hstack([own for name, own in found.items() if name != "label"])
    np.testing.assert_allclose(of_runtime, p, rtol=1e-5, atol=1e-37)
    of_c = library.rows("predict", x, p.shape[1])
    np.testing.assert_allclose(of_c, p, rtol=5e-5, atol=1e-37)


@pytest.mark.parametrize("of", ["outputs", "softmax", "sigmoid"])
@pytest.mark.parametrize("count", [1, 4])
def test_ensembles(of, count, tmp_path):
    models = [dl.Sequential(dl.Linear(3, 5), dl.Tanh(), dl.Linear(5, 2)) for _ in range(count)]
    ensemble = dl.Ensemble(models, of=of)
    x = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    normalizer = dl.ZScoreNormalizer().fit(x)
    expected = ensemble(normalizer.transform(x))
    pipeline = [normalizer, ensemble]
    assert error(outputs_of(dl.to_onnx(pipeline), x)["variable"], expected) < 1e-6
    library = Library(dl.to_c(pipeline, "net"), tmp_path)
    assert error(library.rows("logits", x, 2), expected) < 1e-6
    if count > 1:
        with pytest.raises(TypeError, match="ensembles have no export to int8"):
            dl.to_c(pipeline, "net", "int8", x)
