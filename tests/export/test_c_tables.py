"""Headers of C compute what follows the encoder of the estimators for tables."""

import numpy as np
import pytest

import dlcore as dl
from support.c_compiler import Library
from support.ulp import ulp_distance

pytest.importorskip("sklearn", "1.6")
pytest.importorskip("pandas")

from dlcore.sklearn import TabularRegressor
from support import tables

FRAME, TARGETS = tables.make_table(50)


@pytest.fixture(autouse=True)
def small_networks(monkeypatch):
    tables.shrink_networks(monkeypatch)


def fitted(target, recipe="realmlp", X=FRAME, **options):
    return tables.fitted(X, TARGETS, target, recipe, **options)


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
@pytest.mark.parametrize("target", ["two", "questions", "labels", "numbers"])
def test_from_the_rows_of_the_encoder(target, members, tmp_path):
    check(fitted(target, members=members), tables.new_rows(FRAME), tmp_path)


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
    x = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32) * np.array(
        [1, 1e6, 1e-6], np.float32
    )
    normalizer = dl.RobustNormalizer(clip).fit(x)
    x = np.concatenate([x, 100 * x, -1e20 * x])
    x[0, 1] = np.nan
    y = Library(dl.to_c([normalizer, dl.Sequential(dl.Scale(3))], "net"), tmp_path)
    assert ulp_distance(y.rows("logits", x, 3)[1:], normalizer.transform(x)[1:]).max() <= 4
    assert np.isnan(y.rows("logits", x[:1], 3)[0]).tolist() == [False, True, False]
