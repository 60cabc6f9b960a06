"""ONNX Runtime computes the layers of tables: embeddings of numbers, branches, members."""

import numpy as np
import pytest

import dlcore as dl
from support.exported import error, outputs_of
from support.exported_layers import LAYERS, TAKES_MISSING, WIDTHS, model_of, rows_of

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

DTYPES = [np.float32, np.float64]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("features", WIDTHS)
@pytest.mark.parametrize("name", LAYERS)
def test_what_the_layers_compute(name, features, dtype):
    model = model_of(name, features, dtype)
    proto, x = dl.to_onnx(model), rows_of(name, features, dtype)
    limit = 2e-6 if dtype == np.float32 else 1e-13
    y, expected = outputs_of(proto, x)["variable"], model(x)
    assert y.dtype == expected.dtype
    assert error(y, expected) < limit
    # As many rows as there are, one and none as well.
    assert error(outputs_of(proto, x[-1:])["variable"], expected[-1:]) < limit
    assert outputs_of(proto, x[:0])["variable"].shape == (0, model.out_features)


@pytest.mark.parametrize("name", ["pbld", "members of classes", "wide and deep"])
def test_later_versions_of_the_operators(name):
    model, x = model_of(name, 3, np.float32), rows_of(name, 3, np.float32)
    for opset in (17, 18, 21):
        assert error(outputs_of(dl.to_onnx(model, opset=opset), x)["variable"], model(x)) < 2e-6


@pytest.mark.parametrize("name", [name for name in LAYERS if name not in TAKES_MISSING])
def test_nan_stays_where_it_is_no_value(name):
    model, x = model_of(name, 3, np.float32), rows_of(name, 3, np.float32)
    x[4, 1] = np.nan
    y = outputs_of(dl.to_onnx(model), x)["variable"]
    assert np.array_equal(np.isnan(y), np.isnan(model(x)))


def test_what_is_infinite():
    model = dl.Sequential(dl.ParametricActivation(1, "relu"), dl.PReLU(), seed=0)
    x = np.array([[np.inf], [-np.inf], [0.0], [-0.0]], np.float32)
    np.testing.assert_array_equal(outputs_of(dl.to_onnx(model), x)["variable"], model(x))


def test_waves_of_many_turns_keep_their_digits():
    model = dl.Sequential(dl.Periodic(1, 4, 1.0), seed=0)
    x = np.array([[123456.7], [-1e6]], np.float32)
    assert error(outputs_of(dl.to_onnx(model), x)["variable"], model(x)) < 1e-6


def test_folded_and_rounded():
    model = model_of("wide and deep", 5, np.float64)
    x = rows_of("wide and deep", 5, np.float64)
    y = outputs_of(dl.to_onnx(model, fold_batch_norm=True), x)["variable"]
    assert error(y, model(x)) < 1e-13
    for name in ("bins, B", "members of classes"):
        model, x = model_of(name, 5, np.float64), rows_of(name, 5, np.float64)
        y = outputs_of(dl.to_onnx(model, dtype="float32"), x.astype(np.float32))["variable"]
        assert y.dtype == np.float32
        assert error(y, model(x)) < 1e-5


def test_probabilities_of_members():
    model, x = model_of("members of classes", 4, np.float32), rows_of("", 4, np.float32)
    found = outputs_of(dl.to_onnx(model, output="softmax", classes=["a", "b", "c"]), x)
    np.testing.assert_allclose(found["probabilities"], dl.softmax(model(x)), rtol=1e-5)


def test_logits_of_members_that_are_far_apart():
    model = dl.Sequential(
        dl.LinearEnsemble(1, 2, 2, bias=False), dl.EnsembleMean("sigmoid"), seed=0
    )
    model[0].weight[...] = np.array([[[300], [-300]], [[280], [-290]]])
    x = np.array([[1.0], [-1.0], [0.0]], np.float32)
    np.testing.assert_allclose(outputs_of(dl.to_onnx(model), x)["variable"], model(x), rtol=1e-6)


class Twice(dl.Layer):
    """A layer of the user's own."""

    def forward(self, x):
        return 2 * x

    def backward(self, dy, x):  # noqa: ARG002
        return 2 * dy


def test_what_has_no_export_is_named():
    with pytest.raises(TypeError, match=r"3 members has no export .* EnsembleMean: append one"):
        dl.to_onnx(dl.Sequential(dl.LinearEnsemble(2, 2, 3)))
    inside = dl.Parallel(dl.EnsembleMean(), dl.EnsembleMean("softmax"), in_features=2)
    with pytest.raises(TypeError, match="members began before the branch"):
        dl.to_onnx(dl.Sequential(dl.LinearEnsemble(2, 2, 3), inside))
    with pytest.raises(TypeError, match=r"Twice.*has no export"):
        dl.to_onnx(dl.Sequential(dl.Residual(dl.Linear(2, 2), Twice())))
