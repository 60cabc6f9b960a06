"""Bad input: a clear error that names the argument, and nothing written."""

import numpy as np
import pytest

import dlcore as dl
from support.cases import CASES, DTYPES, results

KINDS = ("activation", "softmax", "loss", "class loss")
# One case of each kernel that takes arrays; the first has the least options.
KERNELS = {case.name: case for case in reversed(CASES) if case.kind in KINDS}
WITH_OUT = [case for case in KERNELS.values() if case.takes_out]

each_kernel = pytest.mark.parametrize("case", KERNELS.values(), ids=str)
each_out = pytest.mark.parametrize("case", WITH_OUT, ids=str)
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda t: t.__name__)


def small(case, dtype=np.float32):
    """Inputs of 24 elements."""
    return case.inputs((6, 4), dtype)


def floating(inputs):
    return [name for name, x in inputs.items() if x.dtype.kind == "f"]


def call(case, **inputs):
    return getattr(dl, case.name)(**inputs, **case.options)


# Types and dtypes


@each_kernel
def test_wrong_dtype(case):
    for name in floating(small(case)):
        for dtype in ("int64", "float16", "complex64", "longdouble", "bool", "object"):
            inputs = small(case)
            inputs[name] = inputs[name].astype(dtype)
            if name == "target" and case.kind == "class loss" and dtype == "int64":
                continue
            with pytest.raises(TypeError, match=name):
                call(case, **inputs)


@each_kernel
def test_mixed_dtypes(case):
    inputs = small(case)
    names = floating(inputs)
    for name in names if len(names) > 1 else []:
        mixed = inputs | {name: inputs[name].astype(np.float64)}
        with pytest.raises(TypeError, match="float"):
            call(case, **mixed)


@each_kernel
def test_not_an_array(case):
    for name, x in small(case).items():
        masked = np.ma.masked_array(x, mask=np.zeros_like(x, bool))
        swapped = x.astype(x.dtype.newbyteorder())
        for bad in (x.tolist(), None, masked, swapped, "text", 1.5, {}):
            with pytest.raises(TypeError, match=name):
                call(case, **small(case) | {name: bad})


@pytest.mark.parametrize("labels", [np.bool_, np.float16, np.complex64, object, "U1"])
@pytest.mark.parametrize(
    "name", ["cross_entropy", "cross_entropy_and_grad", "nll_loss", "nll_loss_and_grad"]
)
def test_labels_that_are_not_integers(name, labels):
    with pytest.raises(TypeError, match="target"):
        getattr(dl, name)(np.zeros((2, 3), np.float32), np.zeros(2).astype(labels))


# Shapes


@each_kernel
def test_wrong_shape(case):
    inputs = small(case)
    first, *others = inputs
    for name in others:
        x = inputs[name]
        for bad in (x[:-1], x[..., None], x[None]):
            with pytest.raises(ValueError, match=f"{name}|{first}"):
                call(case, **inputs | {name: bad})


@pytest.mark.parametrize("case", [c for c in KERNELS.values() if c.kind == "loss"], ids=str)
def test_column_against_vector(case):
    """(N, 1) against (N,) would broadcast to (N, N) in NumPy."""
    inputs = case.inputs((5,), np.float32)
    first, *others = inputs
    for name in inputs:
        with pytest.raises(ValueError, match=f"{first}|{others[0]}"):
            call(case, **inputs | {name: inputs[name][:, None]})


# Labels


BAD_LABELS = [
    (np.int8, -1),
    (np.int8, -128),
    (np.int16, 300),
    (np.int32, -(2**31)),
    (np.int64, 2**32),
    (np.int64, -(2**63)),
    (np.int64, 4),
    (np.uint8, 255),
    (np.uint16, 2**16 - 1),
    (np.uint32, 2**32 - 1),
    (np.uint64, 2**64 - 1),
    (np.uint64, 2**63),
    (np.uint64, 2**64 - 100),  # is -100, ignore_index, in 64 bits
]


@pytest.mark.parametrize(("labels", "bad"), BAD_LABELS)
@pytest.mark.parametrize("loss", ["cross_entropy", "nll_loss"])
@each_dtype
def test_label_out_of_range(loss, labels, bad, dtype, isa):
    for rows in (40, 40_000):
        x = np.zeros((rows, 4), dtype)
        target = np.zeros(rows, labels)
        target[rows // 2 + 3 :: 5] = bad
        out = np.full_like(x, 42)
        first = str(rows // 2 + 3)
        with pytest.raises(IndexError, match=rf"\b{first}\b"):
            getattr(dl, loss)(x, target)
        for options in ({}, {"reduction": "none"}, {"out": out}):
            with pytest.raises(IndexError, match=rf"\b{first}\b"):
                getattr(dl, f"{loss}_and_grad")(x, target, **options)
        assert (out == 42).all()


@each_dtype
def test_label_out_of_range_with_options(dtype, isa):
    x, out = np.zeros((6, 4), dtype), np.full((6, 4), 42, dtype)
    target = np.array([0, 1, -100, 9, 1, 1])
    for options in (
        {"weight": np.ones(4, dtype)},
        {"label_smoothing": 0.1},
        {"ignore_index": 1},
    ):
        row = 2 if "ignore_index" in options else 3
        with pytest.raises(IndexError, match=rf"\b{row}\b"):
            dl.cross_entropy(x, target, **options)
        with pytest.raises(IndexError, match=rf"\b{row}\b"):
            dl.cross_entropy_and_grad(x, target, **options, out=out)
    assert (out == 42).all()


@each_dtype
def test_label_out_of_range_in_images(dtype, isa):
    x = np.zeros((2, 3, 4, 5), dtype)
    target = np.zeros((2, 4, 5), np.int64)
    target[1, 2, 3] = 3
    with pytest.raises(IndexError, match=r"\b33\b|1, 2, 3"):
        dl.cross_entropy(x, target)


# Options


@pytest.mark.parametrize(
    ("name", "options", "argument"),
    [
        ("cross_entropy", {"reduction": "average"}, "reduction"),
        ("cross_entropy", {"reduction": "batchmean"}, "reduction"),
        ("cross_entropy", {"label_smoothing": 1.5}, "label_smoothing"),
        ("cross_entropy", {"label_smoothing": -0.1}, "label_smoothing"),
        ("cross_entropy", {"label_smoothing": np.nan}, "label_smoothing"),
        ("cross_entropy", {"weight": np.ones(3, np.float32)}, "weight"),
        ("cross_entropy", {"weight": np.ones((6, 4), np.float32)}, "weight"),
        ("mse_loss", {"reduction": "batchmean"}, "reduction"),
        ("mse_loss", {"reduction": None}, "reduction"),
        ("smooth_l1_loss", {"beta": -1.0}, "beta"),
        ("huber_loss", {"delta": 0.0}, "delta"),
        ("huber_loss", {"delta": -1.0}, "delta"),
        ("smooth_l1_loss", {"beta": np.nan}, "beta"),
        ("smooth_l1_loss", {"beta": np.inf}, "beta"),
        ("huber_loss", {"delta": np.nan}, "delta"),
        ("quantile_loss", {"quantile": np.nan}, "quantile"),
        ("cross_entropy", {"label_smoothing": "0.1"}, "label_smoothing"),
        ("mse_loss", {"weight": np.ones((4, 6), np.float32)}, "weight"),
        ("kl_div", {"weight": np.ones(3, np.float32)}, "weight"),
        ("softplus", {"beta": 0.0}, "beta"),
        ("softplus", {"beta": -1}, "beta"),
        ("softplus", {"beta": np.nan}, "beta"),
        ("softplus", {"beta": np.inf}, "beta"),
        ("softplus", {"threshold": np.nan}, "threshold"),
        ("softplus_backward", {"beta": 0}, "beta"),
        ("softplus_backward", {"threshold": np.float32(np.nan)}, "threshold"),
        ("elu", {"alpha": np.nan}, "alpha"),
        ("elu_backward", {"alpha": np.inf}, "alpha"),
        ("leaky_relu", {"negative_slope": np.nan}, "negative_slope"),
        ("leaky_relu_backward", {"negative_slope": -np.inf}, "negative_slope"),
        ("gelu", {"approximate": "erf"}, "approximate"),
        ("logsumexp", {"axis": 2}, "axis"),
        ("logsumexp", {"axis": (0, 2)}, "axis"),
        ("logsumexp", {"axis": (0, -2)}, "axis"),
        ("softmax", {"axis": 2}, "axis"),
        ("log_softmax", {"axis": -3}, "axis"),
    ],
)
def test_wrong_option(name, options, argument):
    with pytest.raises(ValueError, match=argument):
        getattr(dl, name)(**small(KERNELS[name]), **options)


@pytest.mark.parametrize("bad", ["1", None, [1.0, 2.0], 1j, {}])
@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("softplus", "beta"),
        ("softplus_backward", "threshold"),
        ("elu", "alpha"),
        ("leaky_relu", "negative_slope"),
        ("huber_loss", "delta"),
        ("smooth_l1_loss_and_grad", "beta"),
    ],
)
def test_an_option_that_is_no_number(name, option, bad):
    with pytest.raises(TypeError, match=f"{option} must be a number, got {type(bad).__name__}"):
        getattr(dl, name)(**small(KERNELS[name]), **{option: bad})


def test_orders_of_quantiles_are_numbers():
    with pytest.raises(TypeError, match=r"quantile_loss: quantile must be an array .* got str"):
        dl.quantile_loss(**small(KERNELS["quantile_loss"]), quantile="0.5")


def test_options_may_be_whatever_has_a_value():
    x = np.linspace(-2, 2, 9)
    for half in (0.5, np.float32(0.5), np.array(0.5)):
        assert np.array_equal(dl.elu(x, half), dl.elu(x, 0.5))
    assert np.array_equal(dl.softplus(x, np.int64(2)), dl.softplus(x, 2.0))
    assert np.array_equal(dl.softplus(x, 1, np.inf)[:4], dl.softplus(x)[:4])


def test_ignore_index_with_probabilities():
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match="ignore_index"):
        dl.cross_entropy(x, x, ignore_index=0)


@each_dtype
@pytest.mark.parametrize("bad", [-0.1, 1.1, np.inf, -np.inf])
def test_probabilities_out_of_range(bad, dtype, isa):
    for n in (1, 17, 50_000):
        p, out = np.full(n, 0.5, dtype), np.full(n, 42, dtype)
        p[-1] = bad
        with pytest.raises(ValueError, match="input"):
            dl.binary_cross_entropy(p, p)
        with pytest.raises(ValueError, match="input"):
            dl.binary_cross_entropy_and_grad(p, np.zeros_like(p), out=out)
        assert (out == 42).all()


# out=


def out_like(case, inputs):
    """Array for `out`, full of 42."""
    return np.full_like(case.run(inputs)[-1], 42)


@each_out
def test_out_is_filled_and_returned(case, isa):
    inputs = small(case)
    expected, out = case.run(inputs), out_like(case, inputs)
    returned = call(case, **inputs, out=out)
    assert (returned[-1] if isinstance(returned, tuple) else returned) is out
    for a, b in zip(results(returned), expected, strict=True):
        assert a.tobytes() == b.tobytes()


@each_out
def test_bad_out(case):
    inputs = small(case)
    good = out_like(case, inputs)
    read_only = good.copy()
    read_only.flags.writeable = False
    bad = {
        "read-only": (ValueError, read_only),
        "overlapping itself": (ValueError, np.lib.stride_tricks.as_strided(good, strides=(4, 4))),
        "repeated": (ValueError, np.lib.stride_tricks.as_strided(good, strides=(0, 4))),
        "shape": (ValueError, good[:-1]),
        "more dimensions": (ValueError, good[None]),
        "dtype": (TypeError, good.astype(np.float64)),
        "byte order": (TypeError, good.astype(good.dtype.newbyteorder())),
        "list": (TypeError, good.tolist()),
    }
    for error, out in bad.values():
        before = np.array(out)
        with pytest.raises(error, match="out"):
            call(case, **inputs, out=out)
        assert np.array_equal(before, np.array(out))


@each_out
def test_out_partly_overlapping_an_input(case):
    inputs = small(case)
    same_shape = [n for n in floating(inputs) if inputs[n].shape == (6, 4)]
    for name in same_shape:
        x = inputs[name]
        buffer = np.zeros((7, 4), x.dtype)
        buffer[:6] = x
        before = buffer.copy()
        for out in (buffer[1:], buffer[5::-1], buffer[:6, ::-1]):
            with pytest.raises(ValueError, match="out"):
                call(case, **inputs | {name: buffer[:6]}, out=out)
            assert np.array_equal(buffer, before)


@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss"])
def test_out_over_the_class_weights(name):
    out = np.ones((6, 4), np.float32)
    with pytest.raises(ValueError, match=f"{name}: out overlaps weight"):
        getattr(dl, f"{name}_and_grad")(-out, np.zeros(6, int), weight=out[2], out=out)
    assert (out == 1).all()


@each_out
@each_dtype
def test_in_place(case, dtype, isa):
    for shape in ((6, 4), (300, 200)):
        expected = case.run(case.inputs(shape, dtype))
        for name, x in case.inputs(shape, dtype).items():
            if x.shape != shape or x.dtype != dtype:
                continue
            inputs = case.inputs(shape, dtype)
            returned = results(call(case, **inputs, out=inputs[name]))
            for a, b in zip(returned, expected, strict=True):
                assert a.tobytes() == b.tobytes(), name


@each_out
def test_interleaved_views_of_one_buffer(case, isa):
    inputs = small(case)
    for name, x in inputs.items():
        if x.shape != (6, 4) or x.dtype != np.float32:
            continue
        for axis in (0, 1):
            buffer = np.zeros((12, 4) if axis == 0 else (6, 8), np.float32)
            even, odd = (
                (slice(None),) * axis + (slice(0, None, 2),),
                (slice(None),) * axis + (slice(1, None, 2),),
            )
            buffer[even] = x
            returned = results(call(case, **inputs | {name: buffer[even]}, out=buffer[odd]))
            for a, b in zip(returned, case.run(inputs), strict=True):
                assert a.tobytes() == b.tobytes()
            assert np.array_equal(buffer[even], x)


# Optimizers


OPTIMIZERS = ["SGD", "Adam", "AdamW"]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize(
    ("grads", "error"),
    [
        (lambda _: [], ValueError),
        (lambda p: [p, p], ValueError),
        (lambda p: [p[:-1]], ValueError),
        (lambda p: [p[:, None]], ValueError),
        (lambda p: [p.astype(np.float64)], TypeError),
        (lambda p: [p.tolist()], TypeError),
    ],
)
def test_wrong_gradients(name, grads, error):
    param = np.ones(5, np.float32)
    other = np.ones(3, np.float32)
    optimizer = getattr(dl, name)([other, param])
    bad = grads(np.ones(5, np.float32))
    with pytest.raises(error, match="grad"):
        optimizer.step([np.ones(3, np.float32), *bad])
    assert (other == 1).all(), "nothing is updated if one gradient is wrong"
    assert (param == 1).all()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_wrong_parameters(name):
    read_only = np.ones(3, np.float32)
    read_only.flags.writeable = False
    for bad, error in [
        ([np.ones(3, np.int64)], TypeError),
        ([[1.0, 2.0]], TypeError),
        ([read_only], ValueError),
        ([], ValueError),
    ]:
        with pytest.raises(error, match="param"):
            getattr(dl, name)(bad)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("SGD", {"lr": -1.0}),
        ("SGD", {"lr": np.nan}),
        ("SGD", {"momentum": -0.5}),
        ("SGD", {"weight_decay": -1.0}),
        ("SGD", {"nesterov": True}),
        ("SGD", {"l1": -1.0}),
        ("Adam", {"lr": -1.0}),
        ("Adam", {"betas": (1.0, 0.999)}),
        ("Adam", {"betas": (0.9, -0.1)}),
        ("Adam", {"eps": -1e-8}),
        ("AdamW", {"weight_decay": -1.0}),
        ("AdamW", {"l1": -1.0}),
    ],
    ids=str,
)
def test_wrong_optimizer_option(name, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        getattr(dl, name)([np.ones(3, np.float32)], **options)


# Normalization


@pytest.mark.parametrize("name", ["MinMaxNormalizer", "ZScoreNormalizer"])
def test_wrong_table(name):
    good = np.arange(6, dtype=np.float32).reshape(3, 2)
    normalizer = getattr(dl, name)()
    with pytest.raises((ValueError, AttributeError, RuntimeError), match="fit"):
        normalizer.transform(good)
    for bad, error in [
        (good.astype(np.int64), TypeError),
        (good.tolist(), TypeError),
        (good[0], ValueError),
        (good[None], ValueError),
    ]:
        with pytest.raises(error, match="x"):
            normalizer.fit(bad)
    normalizer.fit(good)
    with pytest.raises(ValueError, match="x"):
        normalizer.transform(good[:, :1])
    with pytest.raises(ValueError, match="x"):
        normalizer.partial_fit(good[:, :1])


@pytest.mark.parametrize("feature_range", [(1, 0), (1, 1), (0, np.nan)])
def test_wrong_feature_range(feature_range):
    with pytest.raises(ValueError, match="feature_range"):
        dl.MinMaxNormalizer(feature_range).fit(np.ones((2, 2)))


def test_column_stats_of_wrong_arrays():
    for bad, error in [
        (np.ones(3), ValueError),
        (np.ones((3, 2), np.int64), TypeError),
        ([[1.0]], TypeError),
    ]:
        with pytest.raises(error, match="x"):
            dl.column_stats(bad)


def test_merge_of_other_columns():
    with pytest.raises(ValueError, match="column"):
        dl.column_stats(np.ones((3, 2))).merge(dl.column_stats(np.ones((3, 1))))


# Threads


@pytest.mark.parametrize("n", [0, -1, 1.5, "2", None, True])
def test_wrong_number_of_threads(n):
    with pytest.raises((TypeError, ValueError)):
        dl.set_num_threads(n)
