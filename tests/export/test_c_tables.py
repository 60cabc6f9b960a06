"""Headers of C compute what follows the encoder of the estimators for tables."""

import numpy as np
import pytest

import dlcore as dl
from support.c_compiler import Library
from support.ulp import ulp_distance

pytest.importorskip("sklearn", "1.9")
pd = pytest.importorskip("pandas")

from dlcore.sklearn import TabularClassifier, TabularRegressor, _recipes

ROWS = 200
RNG = np.random.default_rng(0)
FRAME = pd.DataFrame({
    "size": RNG.normal(50, 3.0, ROWS),
    "kind": RNG.choice(["a", "b", "c"], ROWS),
    "town": [f"town {i % 23}" for i in range(ROWS)],
    "count": [np.nan if i % 7 == 0 else i % 5 for i in range(ROWS)],
    "nothing": [None] * ROWS,
})  # fmt: skip
SIGNAL = (FRAME["size"] - 50 + 2.0 * (FRAME["kind"] == "a")).to_numpy()
TARGETS = {
    "two": np.where(SIGNAL > 1, "yes", "no"),
    "questions": np.stack([np.digitize(SIGNAL, [0, 2]), np.arange(ROWS) % 4], axis=1),
    "labels": np.stack([SIGNAL > 0, SIGNAL > 2], axis=1).astype(int),
    "numbers": np.stack([SIGNAL, 1e6 - 1e5 * SIGNAL], axis=1),
}


@pytest.fixture(autouse=True)
def small_networks(monkeypatch):
    monkeypatch.setattr(_recipes.RealMLP, "width", 16)
    monkeypatch.setattr(_recipes.TabM, "k", 3)
    monkeypatch.setattr(_recipes.TabM, "width", 8)


def fitted(target, recipe="realmlp", X=FRAME, **options):
    kind = TabularRegressor if target == "numbers" else TabularClassifier
    return kind(recipe, random_state=0, max_epochs=3, **options).fit(X, TARGETS[target])


def check(estimator, X, folder):
    x = estimator.encoder_.transform(X).astype(np.float32)
    library = Library(dl.to_c(estimator, "net"), folder)
    if isinstance(estimator, TabularRegressor):
        expected = estimator.predict(X)
        found = library.rows("predict", x, expected.shape[1])
        assert (np.abs(found - expected) <= 1e-5 * np.abs(expected).max(axis=0)).all()
        assert (found >= estimator._low.astype(np.float32)).all()
        return
    p = estimator.predict_proba(X)
    p = np.hstack(p) if isinstance(p, list) else p
    np.testing.assert_allclose(library.rows("predict", x, p.shape[1]), p, atol=1e-5)
    decided = estimator.predict(X)
    if decided.ndim == 1:
        assert [library.class_names(int(c)) for c in library.classes(x)] == decided.tolist()
    elif estimator._is_multilabel:
        found = library.rows("classes", x, decided.shape[1], y_dtype=np.int32)
        assert np.array_equal(found, decided)


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("target", TARGETS)
def test_from_the_rows_of_the_encoder(target, members, tmp_path):
    rows = FRAME.iloc[:60].copy()
    rows.loc[3, ["kind", "town"]] = "other"
    rows.loc[4, "size"], rows.loc[5, "size"] = 1e9, np.nan
    check(fitted(target, members=members), rows, tmp_path)


def test_texts_alone_by_either_recipe(tmp_path):
    X = FRAME[["kind", "town"]]
    for recipe in ("realmlp", "tabm"):
        check(fitted("two", recipe, X), X, tmp_path)


def test_what_has_no_export_is_named():
    with pytest.raises(TypeError, match="recipe='tabm' takes numbers, have no export to C"):
        dl.to_c(fitted("two", "tabm"), "net")
    with pytest.raises(TypeError, match="have no export to int8"):
        dl.to_c(fitted("two"), "net", "int8", np.ones((2, 4)))


@pytest.mark.parametrize("clip", [True, 0.5, False])
def test_a_robust_normalizer_before_a_network(clip, tmp_path):
    x = RNG.normal(size=(200, 3)).astype(np.float32) * np.array([1, 1e6, 1e-6], np.float32)
    normalizer = dl.RobustNormalizer(clip).fit(x)
    x = np.concatenate([x, 100 * x, -1e20 * x])
    x[0, 1] = np.nan
    y = Library(dl.to_c([normalizer, dl.Sequential(dl.Scale(3))], "net"), tmp_path)
    assert ulp_distance(y.rows("logits", x, 3)[1:], normalizer.transform(x)[1:]).max() <= 4
    assert np.isnan(y.rows("logits", x[:1], 3)[0]).tolist() == [False, True, False]
