"""skl2onnx converts pipelines with dlcore's estimators."""

import numpy as np
import pytest

import dlcore as dl
from support.exported import make_rows, outputs_of

pytest.importorskip("onnxruntime")
skl2onnx = pytest.importorskip("skl2onnx")
estimators = pytest.importorskip("dlcore.sklearn", exc_type=ImportError)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(autouse=True)
def registered():
    dl.register_skl2onnx()


@pytest.mark.parametrize("opset", [13, 18, None])
@pytest.mark.parametrize("labels", [[3, 5, 9], ["a", "b"]])
def test_classifiers(labels, opset):
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures

    x, rng = make_rows(features=3)
    y = np.array(labels)[rng.integers(len(labels), size=len(x))]
    network = estimators.MLPClassifier(layer_norm=True, max_iter=5, random_state=0)
    scalers = estimators.StandardScaler(), PolynomialFeatures(2), estimators.MinMaxScaler()
    pipeline = make_pipeline(*scalers, network).fit(x, y)
    options = {"zipmap": False}
    proto = skl2onnx.to_onnx(pipeline, x[:1], options=options, target_opset=opset)
    found = outputs_of(proto, x)
    assert list(found) == ["label", "probabilities"]
    assert np.array_equal(found["label"], pipeline.predict(x))
    np.testing.assert_allclose(found["probabilities"], pipeline.predict_proba(x), rtol=2e-5)


def test_the_maps_of_skl2onnx():
    x, rng = make_rows(features=3)
    network = estimators.MLPClassifier(max_iter=5, random_state=0)
    network.fit(x, rng.integers(2, size=len(x)))
    found = outputs_of(skl2onnx.to_onnx(network, x[:1]), x)
    assert [list(row) for row in found["output_probability"][:2]] == [[0, 1], [0, 1]]
    with pytest.raises(TypeError, match="several columns of classes has no export by skl2onnx"):
        skl2onnx.to_onnx(network.fit(x, rng.integers(3, size=(len(x), 2))), x[:1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_regressors(dtype):
    x, rng = make_rows(dtype=dtype)
    network = estimators.MLPRegressor(max_iter=5, random_state=0)
    network.fit(x, rng.normal(size=(len(x), 2)))
    found = outputs_of(skl2onnx.to_onnx(network, x[:1]), x)["variable"]
    np.testing.assert_allclose(found, network.predict(x), rtol=1e-4, atol=1e-4)
    assert found.dtype == dtype
