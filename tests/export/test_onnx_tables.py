"""ONNX Runtime computes the estimators for tables, from texts and gaps to labels."""

import numpy as np
import pytest

import dlcore as dl
from support.exported import error, outputs_of, session

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("sklearn", "1.6")
pd = pytest.importorskip("pandas")

from sklearn.pipeline import make_pipeline

from dlcore.sklearn import StandardScaler, TabularRegressor
from support import tables

RNG = np.random.default_rng(0)
FRAME, TARGETS = tables.make_table(1e6)
TEXTS = ("kind", "town", "flag", "gaps")


@pytest.fixture(autouse=True)
def small_networks(monkeypatch):
    tables.shrink_networks(monkeypatch)


def fitted(target, recipe="realmlp", X=FRAME, **options):
    return tables.fitted(X, TARGETS, target, recipe, **options)


def columns_of(frame, texts=TEXTS, dtype=np.float64):
    """Return what a runtime is given: a missing text is empty, a missing number NaN."""
    given = {}
    for name in frame.columns.drop("nothing", errors="ignore"):
        values = frame[name]
        if name in texts:
            as_text = ["" if pd.isna(value) else str(value) for value in values]
            given[name] = np.array(as_text, object)[:, np.newaxis]
        else:
            given[name] = values.to_numpy(dtype)[:, np.newaxis]
    return given


def new_rows():
    return tables.new_rows(FRAME)


def answers_of(proto, given):
    made = session(proto)
    return dict(zip([o.name for o in made.get_outputs()], made.run(None, given), strict=True))


def check(estimator, found, rows, limit=5e-6):
    """Compare what a runtime gives with what an estimator predicts."""
    if isinstance(estimator, TabularRegressor):
        expected = estimator.predict(rows).reshape(len(rows), -1)
        assert list(found) == ["variable"]
        scale = np.abs(expected).max(axis=0)
        assert (np.abs(found["variable"] - expected) <= limit * scale).all()
        return
    assert np.array_equal(found["label"], estimator.predict(rows))
    expected = estimator.predict_proba(rows)
    names = ["probabilities"]
    if isinstance(expected, list):
        names = [f"probabilities_{i}" for i in range(len(expected))]
    assert list(found) == ["label", *names]
    for name, own in zip(names, expected if len(names) > 1 else [expected], strict=True):
        np.testing.assert_allclose(found[name], own, rtol=1e-4, atol=limit)


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("recipe", ["realmlp", "tabm"])
@pytest.mark.parametrize("target", TARGETS)
def test_what_estimators_predict(target, recipe, members):
    estimator = fitted(target, recipe, members=members)
    proto, rows = dl.to_onnx(estimator), new_rows()
    assert [i.name for i in proto.graph.input] == [n for n in FRAME.columns if n != "nothing"]
    check(estimator, answers_of(proto, columns_of(rows)), rows)
    one = rows[3:4]
    check(estimator, answers_of(proto, columns_of(one)), one)


@pytest.mark.parametrize("recipe", ["realmlp", "tabm"])
def test_other_embeddings_and_fewer_members(recipe):
    estimator = fitted("three", recipe, num_embeddings="pwl", members=3, prune_to=2)
    check(estimator, answers_of(dl.to_onnx(estimator), columns_of(new_rows())), new_rows())


@pytest.mark.parametrize("recipe", ["realmlp", "tabm"])
def test_a_matrix_of_numbers_is_one_input(recipe):
    X = RNG.normal(size=(len(FRAME), 5)) * [1, 10, 1e3, 1, 1]
    X[::4, 1], X[:, 3] = np.nan, np.nan
    X[:, 4] = np.round(X[:, 4])
    estimator = fitted("number", recipe, X)
    X[7, 0], X[8, 4] = 1e6, np.nan
    wide = dl.to_onnx(estimator)
    assert [(i.name, i.type.tensor_type.elem_type) for i in wide.graph.input] == [("X", 11)]
    assert [(i.domain, i.version) for i in wide.opset_import] == [("", 13)]
    check(estimator, outputs_of(wide, X), X)
    x = X.astype(np.float32)
    check(estimator, outputs_of(dl.to_onnx(estimator, dtype="float32"), x), x)
    double = outputs_of(dl.to_onnx(estimator, dtype="float64"), X)
    assert double["variable"].dtype == np.float64
    check(estimator, double, X)


def test_texts_alone_and_numbers_that_are_categories():
    X = FRAME[["kind", "town"]]
    estimator = fitted("two", X=X)
    check(estimator, answers_of(dl.to_onnx(estimator), columns_of(X)), X)
    numbers = FRAME[["count", "size"]]
    estimator = fitted("two", X=numbers, categorical_features=["count"])
    assert estimator.encoder_.categories_ == [["0", "1", "2", "3", "4", None]]
    given = columns_of(numbers, ())
    texts = ["" if pd.isna(value) else str(int(value)) for value in numbers["count"]]
    given["count"] = np.array(texts, object)[:, np.newaxis]
    check(estimator, answers_of(dl.to_onnx(estimator), given), numbers)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "normalizer",
    [
        dl.RobustNormalizer(),
        dl.RobustNormalizer(smooth_clip=False),
        dl.QuantileNormalizer(noise=0),
        dl.QuantileNormalizer(2, noise=1e-3),
        dl.QuantileNormalizer(64),
    ],
    ids=["robust", "unclipped", "quantiles", "two quantiles", "many quantiles"],
)
def test_normalizers_before_a_network(normalizer, dtype):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 4)).astype(dtype)
    x[:, 1], x[:, 2], x[:, 3] = np.round(2 * x[:, 1]), 3, np.exp(3 * x[:, 3])
    normalizer.fit(x)
    model = dl.Sequential(dl.Scale(4), dtype=dtype)
    x = np.concatenate([x, 50 * x[:20], -x[:20]])  # what was not there
    x[2, :] = np.nan
    y = outputs_of(dl.to_onnx([normalizer, model]), x)["variable"]
    expected = normalizer.transform(x)
    assert np.array_equal(np.isnan(y), np.isnan(expected))
    # Where few are, a share that is rounded moves the quantile.
    is_exact = isinstance(normalizer, dl.RobustNormalizer)
    limit = 3e-7 if dtype == np.float32 else 2e-14 if is_exact else 3e-10
    np.testing.assert_allclose(y, expected, rtol=limit, atol=limit)


def test_what_has_no_export_is_named():
    dated = FRAME.assign(sold=pd.date_range("2020-01-01", periods=len(FRAME)))
    with pytest.raises(TypeError, match="column 'sold' holds dates, which have no export"):
        dl.to_onnx(fitted("two", X=dated, max_epochs=1))
    numbers = FRAME[["size", "count"]]
    estimator = TabularRegressor(max_epochs=1)
    pipeline = make_pipeline(StandardScaler(), estimator).fit(numbers, TARGETS["number"])
    with pytest.raises(TypeError, match=r"no step .* before it, not after StandardScaler"):
        dl.to_onnx(pipeline)
    with pytest.raises(ValueError, match="the estimator says what its outputs mean"):
        dl.to_onnx(pipeline[-1], output="exp")
    named = FRAME.rename(columns={"size": "label"})
    with pytest.raises(ValueError, match="a column is called 'label', as a result"):
        dl.to_onnx(fitted("two", X=named, max_epochs=1))
    uniform = dl.QuantileNormalizer(output_distribution="uniform").fit(np.ones((3, 2)))
    with pytest.raises(TypeError, match="for a normal distribution alone"):
        dl.to_onnx([uniform, dl.Sequential(dl.Linear(2, 1))])
    tiny = np.array([[1e-300], [2e-300], [4e-300]])
    for normalizer in (dl.QuantileNormalizer(), dl.RobustNormalizer()):
        with pytest.raises(ValueError, match="near the limits of float64"):
            dl.to_onnx([normalizer.fit(tiny), dl.Sequential(dl.Linear(1, 1))])


def test_values_are_clipped_by_the_recipe_of_the_fit():
    estimator, rows = fitted("number"), new_rows()
    estimator.set_params(recipe="tabm")
    estimator._low, estimator._high = estimator._low + 1, estimator._high - 1
    check(estimator, answers_of(dl.to_onnx(estimator), columns_of(rows)), rows)


def test_a_network_of_an_estimator_takes_what_prepare_gives():
    estimator = fitted("three")
    x = estimator.prepare(new_rows())
    network = estimator.models_[0]
    assert error(outputs_of(dl.to_onnx(network), x)["variable"], network(x)) < 2e-6
