"""The first layer that reads sparse rows: dense rows' bits, in both orders of the weights."""

import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest

import dlcore as dl
from dlcore._native.compressed_rows import CompressedRows, as_compressed_rows
from dlcore._native.dispatch import core

each_float = pytest.mark.parametrize("dtype", [np.float32, np.float64])
each_layout = pytest.mark.parametrize("input_major", [False, True], ids=["by output", "by input"])
# Around the registers and the tiles of outputs, and the blocks of columns and rows that are summed
# by themselves.
OUTS = [1, 3, 4, 7, 8, 9, 16, 17, 31, 48, 49, 100]
SHAPES = [(64, 30), (300, 257), (5, 1), (70, 1031)]


def drawn(rows, columns, dtype, density=0.1, seed=0):
    """Return dense rows, some of them and some of their columns empty."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, columns)) * (rng.random((rows, columns)) < density)
    x[::7] = 0
    x[:, ::5] = 0
    return x.astype(dtype)


def csr(x, index=np.int32, *, twice=False, shuffled=False, zeros=False):
    """Return what has the attributes of a CSR matrix and is none of scipy's."""
    rng = np.random.default_rng(1)
    data, indices, indptr = [], [], [0]
    for row in x:
        columns = np.flatnonzero(row)
        values = row[columns]
        if zeros:
            columns = np.append(columns, np.flatnonzero(row == 0)[:2])
            values = np.append(values, np.zeros(len(columns) - len(values), x.dtype))
        if twice:
            columns, values = np.tile(columns, 2), np.tile(values / 2, 2)
        if shuffled or twice or zeros:
            order = rng.permutation(len(columns)) if shuffled else np.argsort(columns)
            columns, values = columns[order], values[order]
        data.append(values)
        indices.append(columns)
        indptr.append(indptr[-1] + len(columns))
    return SimpleNamespace(
        format="csr",
        data=np.concatenate(data).astype(x.dtype),
        dtype=x.dtype,
        indices=np.concatenate(indices).astype(index),
        indptr=np.array(indptr, index),
        shape=x.shape,
    )


def model_of(columns, out, dtype, input_major, *, relu=True):
    first = dl.Linear(columns, out)
    first._is_input_major = input_major
    rest = [dl.ReLU(), dl.Linear(out, 2)] if relu else []
    return dl.Sequential(first, *rest, dtype=dtype, seed=0)


FORMS = [
    {},
    {"index": np.int64},
    {"twice": True},
    {"shuffled": True},
    {"zeros": True, "index": np.int64},
    {"twice": True, "shuffled": True},
]


@each_float
@each_layout
@pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(form) or "plain")
@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_outputs_are_those_of_dense_rows(rows, columns, form, input_major, dtype):
    x = drawn(rows, columns, dtype)
    for relu in (False, True):
        model = model_of(columns, 17, dtype, input_major, relu=relu)
        plain = model_of(columns, 17, dtype, False, relu=relu)
        expected = plain(x)
        for some in (slice(None), slice(3), slice(0)):
            rows_of = csr(x[some], **form) if x[some].size else CompressedRows.of(x[some])
            np.testing.assert_array_equal(model(rows_of), expected[some])
        np.testing.assert_array_equal(model(x), expected)


@each_float
@each_layout
@pytest.mark.parametrize("out", OUTS)
def test_of_any_number_of_outputs(out, input_major, dtype):
    x = drawn(20, 300, dtype)
    model = model_of(300, out, dtype, input_major, relu=False)
    weight, bias = (p.astype(np.longdouble) for p in model.parameters())
    expected = dl.reference.linear(csr(x.astype(np.longdouble), twice=True), weight, bias)
    y = model(csr(x))
    np.testing.assert_array_equal(y, model_of(300, out, dtype, False, relu=False)(x))
    bound = 6 * np.finfo(dtype).eps * (np.abs(x).astype(float) @ np.abs(weight).T.astype(float) + 1)
    assert (np.abs(y - expected) <= bound).all()


def fitted(x, y, columns, dtype, input_major, optimizer="adam", threads=2, **options):
    of_trainer = {
        key: options.pop(key) for key in ("accumulate", "clip_grad_norm") if key in options
    }
    with dl.num_threads(threads):
        model = model_of(columns, 24, dtype, input_major)
        make = {
            "adam": lambda p: dl.Adam(p, 1e-2, weight_decay=1e-3),
            "amsgrad": lambda p: dl.Adam(p, 1e-2, amsgrad=True),
            "momentum": lambda p: dl.SGD(p, 1e-2, momentum=0.9),
            "sgd": lambda p: dl.SGD(p, 1e-1),
        }[optimizer]
        trainer = dl.Trainer(
            model,
            loss="cross_entropy",
            optimizer=make(model.parameters()),
            seed=0,
            **of_trainer,
        )
        trainer.fit(x, y, epochs=2, verbose=0, **options)
    return list(model.state_dict().values())


def assert_same(actual, expected):
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a, b)


@each_float
@each_layout
@pytest.mark.parametrize("optimizer", ["adam", "amsgrad", "momentum", "sgd"])
@pytest.mark.parametrize(
    "options",
    [{}, {"accumulate": 2}, {"clip_grad_norm": 0.1}, {"batch_size": 600}],
    ids=["plain", "accumulate", "clip", "blocks of rows"],
)
def test_a_fit_is_that_of_dense_rows(options, optimizer, input_major, dtype):
    rows, columns = 700, 260
    x = drawn(rows, columns, dtype, 0.05)
    y = np.arange(rows) % 2
    expected = fitted(x, y, columns, dtype, False, optimizer, **options)
    actual = fitted(csr(x), y, columns, dtype, input_major, optimizer, **options)
    if not (input_major and "clip_grad_norm" in options):
        assert_same(actual, expected)
        return
    for a, b in zip(actual, expected, strict=True):  # the squares of a norm have another order
        np.testing.assert_allclose(a, b, rtol=1e-5 if dtype == np.float32 else 1e-11)


@each_layout
def test_an_array_trains_what_sparse_rows_are_made_for(input_major):
    x, y = drawn(100, 40, np.float32), np.arange(100) % 2
    assert_same(fitted(x, y, 40, np.float32, input_major), fitted(x, y, 40, np.float32, False))


@each_layout
def test_any_number_of_threads_gives_the_same_bits(input_major):
    x, y = csr(drawn(512, 5000, np.float32, 0.02)), np.arange(512) % 2
    one = fitted(x, y, 5000, np.float32, input_major, threads=1)
    for threads in (2, 3, 4, 8):
        assert_same(fitted(x, y, 5000, np.float32, input_major, threads=threads), one)


@each_layout
def test_state_goes_from_one_order_of_the_weights_to_the_other(input_major):
    x, y = drawn(64, 30, np.float32), np.arange(64) % 2
    models = [model_of(30, 8, np.float32, own) for own in (input_major, not input_major)]
    optimizers = [dl.Adam(model.parameters(), 1e-2) for model in models]
    first, second = (
        dl.Trainer(model, loss="cross_entropy", optimizer=optimizer, seed=0)
        for model, optimizer in zip(models, optimizers, strict=True)
    )
    first.fit(csr(x), y, epochs=1, shuffle=False, verbose=0)
    models[1].load_state_dict(models[0].state_dict())
    optimizers[1].load_state_dict(optimizers[0].state_dict())
    for trainer in (first, second):
        trainer.fit(csr(x), y, epochs=1, shuffle=False, verbose=0)
    for a, b in zip(*(model.parameters() for model in models), strict=True):
        np.testing.assert_array_equal(a, b)


def test_before_another_layer_rows_are_dense_some_at_a_time():
    x = drawn(40, 30, np.float32)
    layers = dl.LayerNorm(30), dl.Linear(30, 3)
    model = dl.Sequential(*layers, seed=0)
    np.testing.assert_array_equal(model(csr(x)), model(x))
    assert model(CompressedRows.of(x[:0])).shape == (0, 3)


def test_rows_are_taken_out():
    x = drawn(20, 12, np.float64)
    rows = as_compressed_rows(csr(x, shuffled=True), "x", np.dtype(np.float64), 12)
    for some in (
        slice(3, 9),
        slice(9, 3),
        slice(None, None, 2),
        np.array([5, 5, 0, 19]),
        np.arange(20) > 11,
        np.arange(0),
    ):
        np.testing.assert_array_equal(rows[some].toarray(), x[some])
        np.testing.assert_array_equal(rows[2:][slice(1, 3)].toarray(), x[3:5])
    np.testing.assert_array_equal(CompressedRows.of(x).toarray(), x)


def changed(**parts):
    rows = vars(csr(drawn(10, 12, np.float32)))
    return SimpleNamespace(**(rows | parts))


GOOD = csr(drawn(10, 12, np.float32))


@pytest.mark.parametrize(
    ("parts", "error", "message"),
    [
        ({"indices": GOOD.indices + 12}, ValueError, r"x: indices must be < 12"),
        ({"indices": GOOD.indices - 12}, ValueError, r"x: indices must be < 12 and not negative"),
        ({"indptr": GOOD.indptr[::-1].copy()}, ValueError, r"x: indptr must ascend"),
        ({"indptr": GOOD.indptr + 1}, ValueError, r"x: indptr must ascend"),
        (
            {"indptr": GOOD.indptr[:-1]},
            ValueError,
            r"for 10 rows indptr must have the shape \(11,\)",
        ),
        ({"data": GOOD.data[:-1]}, ValueError, r"data that of indices"),
        (
            {"indices": GOOD.indices.astype(float)},
            TypeError,
            r"indices must be integers, not float64",
        ),
        ({"shape": (10, 13)}, ValueError, r"x must have shape \(N, 12\), not \(10, 13\)"),
        ({"dtype": np.dtype(np.float64)}, TypeError, r"x is float64, the model float32"),
    ],
)
def test_what_is_no_sparse_matrix(parts, error, message):
    model = model_of(12, 3, np.float32, False)
    with pytest.raises(error, match=message):
        model(changed(**parts))


def test_native_objects_refuse_what_does_not_fit():
    model = model_of(12, 3, np.float32, True)
    model(GOOD)
    other = CompressedRows.of(np.eye(13, dtype=np.float32))
    with pytest.raises(ValueError, match="does not fit the network"):
        model._inference._of_sparse(other.spec)
    assert model._inference.try_call(np.eye(12, dtype=np.float32)) is None
    assert core.rows_ascend("x", GOOD.indices, GOOD.indptr, len(GOOD.data), 12)


def test_a_wide_network_takes_no_dense_rows():
    columns, rows = 50_000, 2000
    x = CompressedRows(
        np.ones(rows, np.float32),
        np.arange(rows, dtype=np.int32) * 20,
        np.arange(rows + 1, dtype=np.int32),
        (rows, columns),
    )
    model = model_of(columns, 4, np.float32, False)
    tracemalloc.start()
    model(x)
    fit = dl.Trainer(model, loss="cross_entropy", optimizer=dl.SGD(model.parameters(), 0.1)).fit
    fit(x, np.zeros(rows, int), epochs=1, batch_size=2000, verbose=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6 < 4 * columns * rows
