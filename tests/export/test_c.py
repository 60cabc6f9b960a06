"""Headers of C compute what dlcore does, in float32, with any compiler and without a library."""

import dataclasses
import os
import re

import numpy as np
import pytest

import dlcore as dl
from dlcore.export._c_float import header_of_floats
from dlcore.export._network import of_network
from dlcore.export._steps import Activation
from dlcore.nn._layers import ACTIVATIONS
from support.c_compiler import STRICT, Library, compiled, compiler, run, undefined
from support.exported import make_rows, random_network
from support.ulp import ulp_distance

NETWORKS = int(os.environ.get("DLCORE_NETWORKS", "40"))

quiet = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def units(y, expected):
    """Return the largest error in ULP of the largest of the outputs."""
    return float(np.abs(y - expected).max() / np.spacing(np.abs(expected).max()))


def has_row_norm(model):
    return any(isinstance(layer, dl.LayerNorm | dl.RMSNorm) for layer in model.layers)


@pytest.mark.parametrize("seed", range(0, NETWORKS, 2))
def test_random_networks(seed, tmp_path):
    model, x = random_network(seed)
    header = dl.to_c(model, "net")
    for options, limit in (((), 4), (("-DNET_PLAIN",), 6)):
        library = Library(header, tmp_path, *options)
        y = library.rows("logits", x, model.out_features)
        # A normalization of rows multiplies what rounding left, in dlcore as well.
        assert units(y, model(x)) <= (16 if has_row_norm(model) else limit)
        assert np.array_equal(library.rows("predict", x, model.out_features), y)


def has_multiply_add():
    return dl.isa() in ("x86-64-v3", "x86-64-v4")


@pytest.mark.skipif(not has_multiply_add(), reason="the processor has no multiply-add")
@pytest.mark.parametrize("widths", [(7, 33, 5), (784, 30, 10), (1, 4, 1)])
def test_with_a_multiply_add_the_bits_are_the_same(widths, tmp_path):
    layers = [dl.Linear(widths[0], widths[1]), dl.BatchNorm1d(widths[1]), dl.LeakyReLU(0.1)]
    model = dl.Sequential(*layers, dl.Linear(*widths[1:]), dl.ReLU(), seed=0)
    rng = np.random.default_rng(0)
    model[1].running_mean[...] = rng.normal(size=widths[1])
    model[1].bias[...] = rng.normal(size=widths[1])
    x = rng.normal(size=(50, widths[0])).astype(np.float32)
    normalizer = dl.ZScoreNormalizer().fit(x)
    header = dl.to_c([normalizer, model], "net")
    expected = model(normalizer.transform(x))
    for options in ((), ("-mfma",), ("-O0",)):
        library = Library(header, tmp_path, *options)
        assert np.array_equal(library.rows("logits", x, widths[2]), expected)
    plain = Library(header, tmp_path, "-DNET_PLAIN").rows("logits", x, widths[2])
    assert units(plain, expected) <= 6


@pytest.mark.parametrize("kind", ACTIVATIONS.values())
def test_activations_to_a_few_ulp(kind, tmp_path):
    layers = [dl.GELU(), dl.GELU("tanh")] if kind is dl.GELU else [kind()]
    layers += {
        dl.Softplus: [dl.Softplus(2.5, 3.0), dl.Softplus(0.5, np.inf)],
        dl.LeakyReLU: [dl.LeakyReLU(-1.5)],
        dl.ELU: [dl.ELU(0.3)],
    }.get(kind, [])
    tiny = np.logspace(-40, 2.4, 1500)
    x = np.concatenate([-tiny[::-1], [0.0], tiny, [np.inf, -np.inf, np.nan, -103.9]])
    x = x.astype(np.float32)[:, np.newaxis]
    for layer in layers:
        model = dl.Sequential(dl.Linear(1, 1, bias=False), layer)
        model[0].weight[...] = 1
        library = Library(dl.to_c(model, "net"), tmp_path)
        # Not by the model, which takes subnormal numbers for 0.
        expected = getattr(dl, kind.kernel)(x, **layer.options)
        y = library.rows("logits", x, 1)
        assert np.array_equal(np.isnan(y), np.isnan(expected))
        assert np.array_equal(np.isinf(y), np.isinf(expected))
        finite = np.isfinite(expected)
        # Products with what is nearly or wholly subnormal have lost digits.
        error = ulp_distance(y[finite], expected[finite], np.float32(1e-30))
        # Of what is tiny in softplus, and in GELU, the argument of an exponential was rounded.
        rounds = layer == dl.GELU("tanh") or getattr(layer, "beta", 1) != 1
        limit = 100 if rounds else 6
        assert error.max() <= limit, x[finite][error.argmax()]


LABELS = {
    "numbers": np.array([3, 5, -9]),
    "text": np.array(['a "b" */ ??/', "rot ö", "50 %\\n"]),
    "two": np.array(["no", "yes"]),
}


@quiet
@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_classifiers_in_a_pipeline(labels, tmp_path):
    estimators = pytest.importorskip("dlcore.sklearn", exc_type=ImportError)
    from sklearn.pipeline import make_pipeline

    x, rng = make_rows()
    y = labels[rng.integers(len(labels), size=len(x))]
    network = estimators.MLPClassifier(
        (16, 8), ["tanh", "silu"], batch_norm=True, max_iter=8, random_state=0
    )
    pipeline = make_pipeline(estimators.StandardScaler(), network).fit(x, y)
    header = dl.to_c(pipeline, "net")
    library = Library(header, tmp_path)
    p, expected = library.rows("predict", x, len(labels)), pipeline.predict_proba(x)
    np.testing.assert_allclose(p, expected, rtol=1e-5)
    names = [library.class_names(int(c)) for c in library.classes(x)]
    assert names == [str(label) for label in pipeline.predict(x)]
    assert f"#define NET_CLASSES {len(labels)}\n" in header
    logits = library.rows("logits", x, network.n_outputs_)
    assert units(logits, pipeline.decision_function(x).reshape(len(x), -1)) <= 4


@quiet
def test_several_targets(tmp_path):
    estimators = pytest.importorskip("dlcore.sklearn", exc_type=ImportError)
    x, rng = make_rows()
    network = estimators.MLPClassifier((12,), max_iter=5, random_state=0)
    network.fit(x, rng.integers(2, size=(len(x), 3)))
    library = Library(dl.to_c(network, "net"), tmp_path)
    np.testing.assert_allclose(
        library.rows("predict", x, 3), network.predict_proba(x), rtol=1e-4, atol=1e-37
    )
    assert np.array_equal(library.rows("classes", x, 3, y_dtype=np.int32), network.predict(x))
    many = np.stack([rng.integers(3, size=len(x)), rng.integers(10, 14, size=len(x))], axis=1)
    network.fit(x, many)
    library = Library(dl.to_c(network, "net"), tmp_path)
    p = np.hstack(network.predict_proba(x))
    np.testing.assert_allclose(library.rows("predict", x, 7), p, rtol=1e-4, atol=1e-37)
    places = library.rows("classes", x, 2, y_dtype=np.int32)
    named = [[library.class_names(t, int(c)) for t, c in enumerate(row)] for row in places]
    assert named == [[str(label) for label in row] for row in network.predict(x)]


REGRESSORS = {
    "one": {},
    "two": {},
    "poisson": {"loss": "poisson"},
    "quantiles": {"loss": "quantile", "quantile": [0.9, 0.1, 0.5]},
    "clipped": {"clip_outputs": True},
    "clipped poisson": {"loss": "poisson", "clip_outputs": True},
}


@quiet
@pytest.mark.parametrize("transformed", [False, True])
@pytest.mark.parametrize("name", REGRESSORS)
def test_regressors_in_a_pipeline(name, transformed, tmp_path):
    estimators = pytest.importorskip("dlcore.sklearn", exc_type=ImportError)
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.pipeline import make_pipeline

    x, rng = make_rows()
    y = rng.poisson(3, (len(x), 2) if name == "two" else len(x)).astype(float)
    scalers = [estimators.MinMaxScaler((-1, 2), clip=True), estimators.StandardScaler()]
    network = estimators.MLPRegressor(
        hidden_layer_sizes=(16,), activation="elu", max_iter=8, random_state=0, **REGRESSORS[name]
    )
    pipeline = make_pipeline(*scalers, network)
    if transformed:
        transformer = estimators.MinMaxScaler((0, 5))
        pipeline = TransformedTargetRegressor(pipeline, transformer=transformer)
    pipeline.fit(x, y)
    library = Library(dl.to_c(pipeline, "net"), tmp_path)
    expected = pipeline.predict(2 * x).reshape(len(x), -1)
    found = library.rows("predict", 2 * x, expected.shape[1])
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)


def test_normalizers_keep_the_digits_of_large_values(tmp_path):
    x, rng = make_rows()
    x[:, 0] = 1e8 + 64 * rng.integers(-3, 4, len(x))
    model = dl.Sequential(dl.Linear(6, 4), dl.Tanh(), dl.Linear(4, 2), seed=0)
    for normalizer in (dl.ZScoreNormalizer(), dl.MinMaxNormalizer((-1, 1), clip=True)):
        normalizer.fit(x)
        library = Library(dl.to_c([normalizer, model], "net"), tmp_path)
        y = library.rows("logits", 1.5 * x, 2)
        assert units(y, model(normalizer.transform((1.5 * x).astype(np.float32)))) <= 4


# ---- compilers


def everything(dtype):
    """Give a header that has every function, and is small enough for any chip."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 5)).astype(np.float32)
    hidden = [
        dl.ReLU(),
        dl.BatchNorm1d(6),
        dl.LeakyReLU(),
        dl.ELU(),
        dl.LayerNorm(6),
        dl.GELU(),
        dl.GELU("tanh"),
        dl.SiLU(),
        dl.RMSNorm(6),
        dl.Sigmoid(),
        dl.Tanh(),
        dl.Softplus(),
        dl.LogSigmoid(),
    ]
    if dtype == "float32":
        hidden += [
            dl.ParametricActivation(6, "mish"),
            dl.PReLU(6),
            dl.Residual(dl.PBLDEmbeddings(6, 2, missing=True), dl.Linear(12, 6)),
            *(dl.LinearBatchEnsemble(6, 5, 2), dl.EnsembleMean("sigmoid")),
            dl.PiecewiseLinearEmbeddings([[0, 1, 2]] * 5, 2, activation=False),
            *(dl.LinearEnsemble(10, 6, 2), dl.EnsembleMean("softmax")),
        ]
    model = dl.Sequential(dl.Linear(5, 6), *hidden, dl.Linear(6, 3), seed=0)
    normalizer = dl.ZScoreNormalizer().fit(x)
    return [normalizer, model], x


CALLER = """\
#include "net.h"
static KIND x[NET_FEATURES];
int main(void) {
    return net_class_name(net_class(x))[0];
}
"""

TARGETS = {
    "gcc": ("gcc", "nm", "-O2"),
    "gcc -O3": ("gcc", "nm", "-O3"),
    "gcc -Os": ("gcc", "nm", "-Os"),
    "clang": ("clang", "nm", "-O2"),
    "Cortex-M0": ("arm-none-eabi-gcc", "arm-none-eabi-nm", "-O2", "-mcpu=cortex-m0", "-mthumb"),
    "Cortex-M4F": (
        "arm-none-eabi-gcc",
        "arm-none-eabi-nm",
        "-O2",
        "-mcpu=cortex-m4",
        "-mthumb",
        "-mfpu=fpv4-sp-d16",
        "-mfloat-abi=hard",
    ),
    "AVR": ("avr-gcc", "avr-nm", "-Os", "-mmcu=atmega2560"),
}


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("target", TARGETS)
def test_compilers_have_nothing_to_say(target, dtype, tmp_path):
    cc, nm, *options = TARGETS[target]
    pipeline, x = everything(dtype)
    calibration = x if dtype == "int8" else None
    header = dl.to_c(
        pipeline, "net", dtype, calibration, output="softmax", classes=["a", "b", "ö*/"]
    )
    made = compiled(header, "net", tmp_path, *options, cc=cc)
    needed = undefined(made, nm)
    if target in ("Cortex-M0", "Cortex-M4F", "AVR"):
        # What a chip has no instruction for is in the compiler's own library.
        needed = {name for name in needed if not name.startswith("__")}
    assert not needed, "functions of the library of C"
    kind = "float" if dtype == "float32" else "int8_t"
    # Compilers see more where functions are called, and made a part of what calls them.
    (tmp_path / "main.c").write_text(CALLER.replace("KIND", kind))
    run(compiler(cc), *STRICT, *options, "-c", tmp_path / "main.c", "-o", tmp_path / "main.o")
    run(compiler(cc), *STRICT, *options, "-fsyntax-only", "-x", "c", tmp_path / "net.h")
    if dtype == "int8" and target in ("Cortex-M0", "AVR"):
        made = compiled(header, "net", tmp_path, *options, "-DNET_NO_FLOAT", cc=cc)
        floats = re.compile(r"__(aeabi_[fd]|\w*[sd]f)")
        assert not [name for name in undefined(made, nm) if floats.match(name)]


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_cpp_may_include_it(dtype, tmp_path):
    pipeline, x = everything(dtype)
    header = dl.to_c(pipeline, "net", dtype, x if dtype == "int8" else None, output="softmax")
    (tmp_path / "net.h").write_text(header)
    source = tmp_path / "main.cpp"
    source.write_text('#include "net.h"\n#include "net.h"\nint main() { return 0; }\n')
    flags = ("-std=c++11", "-pedantic", "-Wall", "-Wextra", "-Werror")
    run(compiler("g++"), *flags, source, "-o", tmp_path / "main")


# ---- bad input


@pytest.mark.parametrize("name", ["", "1st", "a-b", "_net", "größe", "a b", 3])
def test_names_that_are_no_identifiers(name):
    with pytest.raises(ValueError, match="name must be an identifier of C that begins"):
        dl.to_c(dl.Sequential(dl.Linear(2, 1)), name)


def test_what_is_refused():
    model = dl.Sequential(dl.Linear(2, 1), seed=0)
    x = np.ones((3, 2))
    for arguments, options, message in [
        ((model, "int"), {}, "name is a keyword, 'int'"),
        ((model, "net", "int4"), {}, "dtype must be 'float32' or 'int8', not 'int4'"),
        ((model, "net", "float32", x), {}, 'calibration is for dtype="int8"'),
        ((model, "net", "int8"), {}, 'dtype="int8" needs calibration'),
        ((model, "net", "int8", x[:0]), {}, r"shape \(rows, 2\) with a row at least, got \(0, 2\)"),
        ((model, "net", "int8", x[:, :1]), {}, r"got \(3, 1\)"),
        ((model, "net", "int8", x * np.nan), {}, "calibration has NaN or infinities"),
        ((dl.Sequential(dl.ReLU()), "net"), {}, "any number of features; begin with a Linear"),
        ((model, "net"), {"output": "argmax"}, "output is one of"),
    ]:
        with pytest.raises(ValueError, match=message):
            dl.to_c(*arguments, **options)
    unknown = dataclasses.replace(of_network(model), steps=(Activation("swish", {}),))
    with pytest.raises(TypeError, match="to_c: the activation swish has no export"):
        header_of_floats(unknown, "net")
    with pytest.raises(TypeError, match="to_c: object has no export"):
        dl.to_c(object(), "net")
    model[0].weight[0, 0] = np.inf
    with pytest.raises(ValueError, match="a weight is not finite in float32"):
        dl.to_c(model, "net")
    wide = dl.Sequential(dl.Linear(2, 1), dtype=np.float64)
    wide[0].bias[...] = 1e200
    with pytest.raises(ValueError, match="a bias is not finite in float32"):
        dl.to_c(wide, "net")
