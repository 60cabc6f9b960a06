"""Headers of C compute the layers of tables: embeddings of numbers, branches, members."""

import numpy as np
import pytest

import dlcore as dl
from support.c_compiler import Library, compiled, undefined
from support.exported import error
from support.exported_layers import LAYERS, TAKES_MISSING, model_of, rows_of


def logits(model, x, folder, *options):
    library = Library(dl.to_c(model, "net"), folder, *options)
    return library.rows("logits", x, model.out_features)


@pytest.mark.parametrize("features", [1, 18])
@pytest.mark.parametrize("name", LAYERS)
def test_what_the_layers_compute(name, features, tmp_path):
    model, x = model_of(name, features, np.float32), rows_of(name, features, np.float32)
    options = ("-DNET_PLAIN",) if features == 1 else ()
    library = Library(dl.to_c(model, "net"), tmp_path, *options)
    assert error(library.rows("logits", x, model.out_features), model(x)) < 2e-6
    if name not in TAKES_MISSING:
        x[4, 0] = np.nan
        y = library.rows("logits", x, model.out_features)
        assert np.array_equal(np.isnan(y), np.isnan(model(x)))


CATEGORIES = {
    "one": lambda missing: dl.Embedding(5, 4, missing=missing),
    "columns": lambda missing: dl.CategoricalEmbeddings(
        [5, 3], [4, 2], columns=[2, 0], in_features=4, missing=missing
    ),
    "one-hot": lambda missing: dl.OneHotLinear([5, 3], 4, bias=missing == "error", missing=missing),
}


@pytest.mark.parametrize("missing", ["error", "category", "zeros"])
@pytest.mark.parametrize("name", CATEGORIES)
def test_categories(name, missing, tmp_path):
    first = CATEGORIES[name](missing)
    model = dl.Sequential(first, dl.ReLU(), dl.Linear(first.out_features, 2), seed=0)
    place = 2 if name == "columns" else 0
    x = np.random.default_rng(0).integers(3, size=(20, first.in_features)).astype(np.float32)
    x[3, place] = 4
    library = Library(dl.to_c(model, "net"), tmp_path)
    if missing != "error":
        x[::4, place] = np.nan
    assert error(library.rows("logits", x, 2), model(x)) < 2e-6
    # What is no code has no embedding.
    none = np.tile(x[:1], (6, 1))
    none[:, place] = [-1, 5, 1.5, np.inf, 1e30, np.nan if missing == "error" else -0.5]
    embedded = dl.Sequential(CATEGORIES[name](missing), seed=0)
    width = embedded.out_features
    y = Library(dl.to_c(embedded, "net"), tmp_path).rows("logits", none, width)
    assert (np.isnan(y).sum(axis=1) == 4).all()


def test_waves_to_a_few_ulp_of_their_largest(tmp_path):
    model = dl.Sequential(dl.Periodic(1, 1, bias=False))
    model[0].weight[...] = 1
    x = np.concatenate([np.linspace(-2, 2, 4001), [1e5 + 0.25, 3e9, -1e30]])
    x = x.astype(np.float32)[:, np.newaxis]
    whole = x.astype(float) - np.rint(x.astype(float))
    expected = np.hstack([np.cos(2 * np.pi * whole), np.sin(2 * np.pi * whole)])
    y = logits(model, x, tmp_path)
    np.testing.assert_allclose(y, expected, rtol=3e-7, atol=1e-12)
    odd = np.array([[np.inf], [-np.inf], [np.nan]], np.float32)
    assert np.isnan(logits(model, odd, tmp_path)).all()


def test_members_that_are_far_apart(tmp_path):
    x = np.array([[1.0], [-1.0], [0.0]], np.float32)
    for of in ("softmax", "sigmoid"):
        model = dl.Sequential(dl.LinearEnsemble(1, 2, 2, bias=False), dl.EnsembleMean(of), seed=0)
        model[0].weight[...] = np.array([[[300], [-300]], [[280], [-290]]])
        np.testing.assert_allclose(logits(model, x, tmp_path), model(x), rtol=1e-6)


def test_parameters_of_float64_are_rounded(tmp_path):
    model, x = model_of("members", 5, np.float64), rows_of("members", 5, np.float64)
    assert error(logits(model, x, tmp_path), model(x)) < 1e-5


def test_infinities_of_parametric_activations(tmp_path):
    model = dl.Sequential(dl.ParametricActivation(1, "relu"), dl.PReLU(), seed=0)
    x = np.array([[np.inf], [-np.inf], [0.0], [-0.0]], np.float32)
    np.testing.assert_array_equal(logits(model, x, tmp_path), model(x))


@pytest.mark.parametrize("options", [("-O0",), ("-O3",), ("-Os",)])
def test_nothing_of_the_library_is_needed_for_wide_layers(options, tmp_path):
    wide = dl.Sequential(
        dl.Parallel((), [dl.Residual(dl.ReLU())], columns=[(0, 2000)] * 2),
        dl.LinearEnsemble(4000, 1, 2),
        dl.EnsembleMean("sigmoid"),
        dl.Parallel(dl.ReLU(), (), join="sum"),
        seed=0,
    )
    assert not undefined(compiled(dl.to_c(wide, "net"), "net", tmp_path, *options))


def test_what_has_no_export_is_named():
    x = np.ones((3, 2))
    for layer, name in [
        (dl.PReLU(), "layers of PReLU"),
        (dl.ParametricActivation(2), "layers of ParametricActivation"),
        (dl.PBLDEmbeddings(2), "branches, such as those of Residual and Parallel, and ensembles"),
        (dl.LinearEmbeddings(2, 1), "embeddings of numbers"),
    ]:
        with pytest.raises(TypeError, match=rf"{name} have no export to int8; use dtype="):
            dl.to_c(dl.Sequential(dl.Linear(2, 2), layer), "net", "int8", x)
    model = dl.Sequential(dl.LinearEnsemble(2, 1, 3), dl.EnsembleMean())
    with pytest.raises(TypeError, match="layers of members, such as LinearEnsemble, have no"):
        dl.to_c(model, "net", "int8", x)
    inside = dl.Sequential(dl.OneHotLinear([3, 2], 2))
    with pytest.raises(TypeError, match="codes of categories have no export to int8"):
        dl.to_c(inside, "net", "int8", x)
    with pytest.raises(TypeError, match=r"QuantileNormalizer, .* have no export to C; to_onnx has"):
        dl.to_c([dl.QuantileNormalizer().fit(x), dl.Sequential(dl.Linear(2, 1))], "net")


def test_scale_in_int8(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4)).astype(np.float32)
    model = dl.Sequential(dl.Scale(4, 1.5), dl.Linear(4, 3), seed=0)
    header = dl.to_c(model, "net", "int8", x, output="softmax")
    library = Library(header, tmp_path)
    q = library.rows("quantize", x, 4, y_dtype=np.int8)
    assert (library.classes(q, np.int8) == model(x).argmax(1)).mean() > 0.95
