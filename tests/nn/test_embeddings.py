"""Layers of categories: the same networks over one-hot columns are what they must compute and learn."""

import copy
import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dlcore as dl

SIZES, DIMS, COLUMNS, WIDTH = (5, 40, 1), (3, 16, 2), (4, 0, 2), 6
NUMBERS = [1, 3, 5]


def rows(n, dtype=np.float64, missing=0.0, seed=0):
    """Rows of numbers and codes, some of them missing, and a target."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, WIDTH))
    for column, size in zip(COLUMNS, SIZES, strict=True):
        x[:, column] = rng.integers(size, size=n)
        x[rng.random(n) < missing, column] = np.nan
    y = (np.nan_to_num(x[:, 0]) % 3 + x[:, 1] > 1).astype(int) + (x[:, 4] == 2)
    return x.astype(dtype), y


def one_hot(x, missing):
    """The columns of numbers, and a column for each category."""
    blocks = [x[:, NUMBERS]]
    for column, size in zip(COLUMNS, SIZES, strict=True):
        codes = x[:, column]
        wide = np.zeros((len(x), size + 1), x.dtype)
        wide[np.arange(len(x)), np.where(np.isnan(codes), size, codes).astype(int)] = 1
        blocks.append(wide if missing == "category" else wide[:, :size])
    return np.hstack(blocks)


def of_embeddings(missing="error", dtype=np.float64, dims=DIMS):
    embeddings = dl.CategoricalEmbeddings(
        SIZES, dims, columns=COLUMNS, in_features=WIDTH, missing=missing
    )
    width = embeddings.out_features
    return dl.Sequential(
        embeddings, dl.Linear(width, 20), dl.ReLU(), dl.Linear(20, 3), dtype=dtype, seed=0
    )


def of_one_hot(model, missing="error", dims=DIMS):
    """The same network over one-hot columns."""
    sizes = [size + (missing == "category") for size in SIZES]
    begins = len(NUMBERS) + np.cumsum([0, *sizes])
    columns = [(0, len(NUMBERS)), *itertools.pairwise(begins)]
    tables = [dl.Linear(size, dim, bias=False) for size, dim in zip(sizes, dims, strict=True)]
    other = dl.Sequential(
        dl.Parallel((), *tables, columns=columns),
        dl.Linear(model[1].in_features, 20),
        dl.ReLU(),
        dl.Linear(20, 3),
        dtype=model.dtype,
    )
    for own, its in zip(transposed(model.parameters()), other.parameters(), strict=True):
        its[...] = own
    return other


def transposed(parameters):
    """Parameters or gradients of the one network as those of the other."""
    return [array.T if i < len(SIZES) else array for i, array in enumerate(parameters)]


def tables_of(model):
    return [model.state_dict()[f"0.{i}.weight"] for i in range(len(SIZES))]


def tolerance(dtype):
    return {"rtol": 2e-5, "atol": 2e-6} if dtype == np.float32 else {"rtol": 1e-9, "atol": 1e-11}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("missing", ["error", "category", "zeros"])
@pytest.mark.parametrize("n", [0, 1, 7, 64, 300])
def test_rows_of_tables_are_read(n, missing, dtype):
    model = of_embeddings(missing, dtype)
    x, _ = rows(n, dtype, 0.0 if missing == "error" else 0.2)
    expected = [x[:, NUMBERS]]
    for column, table in zip(COLUMNS, tables_of(model), strict=True):
        codes = x[:, column]
        there = np.isfinite(codes)
        own = table[np.where(there, codes, len(table) - 1).astype(int)]
        expected.append(np.where(there[:, None], own, 0) if missing == "zeros" else own)
    expected = np.hstack(expected)
    np.testing.assert_array_equal(model[:1](x), expected)
    np.testing.assert_array_equal(model[:1].snapshot()(x), expected)
    np.testing.assert_array_equal(model[:1].forward(x), expected)
    np.testing.assert_array_equal(model(x), model[1:](expected))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("missing", ["error", "category", "zeros"])
def test_gradients_are_those_over_one_hot_columns(missing, dtype):
    model = of_embeddings(missing, dtype)
    other = of_one_hot(model, missing)
    x, _ = rows(200, dtype, 0.0 if missing == "error" else 0.2)
    wide = one_hot(x, missing)
    dy = np.random.default_rng(1).normal(size=(200, 3)).astype(dtype)
    np.testing.assert_allclose(model.forward(x), other.forward(wide), **tolerance(dtype))
    dx, dwide = model.backward(dy), other.backward(dy)
    np.testing.assert_array_equal(dx[:, list(COLUMNS)], 0)
    np.testing.assert_allclose(dx[:, NUMBERS], dwide[:, : len(NUMBERS)], **tolerance(dtype))
    for own, its in zip(transposed(model.grads()), other.grads(), strict=True):
        np.testing.assert_allclose(own, its, **tolerance(dtype))
    once = [g.copy() for g in model.grads()]
    model.backward(dy, add=True)
    for own, its in zip(model.grads(), once, strict=True):
        np.testing.assert_allclose(own, 2 * its, **tolerance(dtype))


def optimizers():
    return {
        "sgd": lambda m: dl.SGD(m.parameters(), lr=0.1),
        "momentum": lambda m: dl.SGD(m.parameters(), lr=0.05, momentum=0.9),
        "nesterov": lambda m: dl.SGD(m.parameters(), lr=0.05, momentum=0.9, nesterov=True),
        "sgd decay": lambda m: dl.SGD(m.parameters(), lr=0.05, momentum=0.9, weight_decay=0.01),
        "adam": lambda m: dl.Adam(m.parameters(), lr=0.01),
        "amsgrad": lambda m: dl.Adam(m.parameters(), lr=0.01, amsgrad=True),
        "adam decay": lambda m: dl.Adam(m.parameters(), lr=0.01, weight_decay=0.01),
        "adamw": lambda m: dl.AdamW(m.parameters(), lr=0.01, weight_decay=0.1),
    }


OPTIONS = {
    "norm": {"clip_grad_norm": 0.5},
    "value": {"clip_grad_value": 1e-3},
    "accumulate": {"accumulate": 3},
    "average": {"callbacks": "average"},
}


def fitted(model, x, y, make, epochs=3, batch_size=20, **options):
    if options.get("callbacks") == "average":
        options["callbacks"] = [dl.ExponentialMovingAverage(decay=0.9)]
    trainer = dl.Trainer(model, loss="cross_entropy", optimizer=make(model), seed=0, **options)
    trainer.fit(x, y, epochs=epochs, batch_size=batch_size, verbose=0)
    return model, trainer


def check_learns_the_same(model, other, tolerance):
    for own, its in zip(transposed(model.parameters()), other.parameters(), strict=True):
        np.testing.assert_allclose(own, its, **tolerance)


@pytest.mark.parametrize("name", optimizers())
def test_fits_are_those_over_one_hot_columns(name):
    model = of_embeddings("category")
    other = of_one_hot(model, "category")
    x, y = rows(400, missing=0.1)
    make = optimizers()[name]
    fitted(model, x, y, make)
    fitted(other, one_hot(x, "category"), y, make)
    check_learns_the_same(model, other, {"rtol": 1e-6, "atol": 1e-8})


@pytest.mark.parametrize("name", ["momentum", "adam"])
@pytest.mark.parametrize("options", OPTIONS)
def test_fits_with_options_are_those_over_one_hot_columns(options, name):
    model = of_embeddings("zeros")
    other = of_one_hot(model, "zeros")
    x, y = rows(400, missing=0.1)
    make = optimizers()[name]
    fitted(model, x, y, make, **OPTIONS[options])
    fitted(other, one_hot(x, "zeros"), y, make, **OPTIONS[options])
    check_learns_the_same(model, other, {"rtol": 1e-6, "atol": 1e-8})


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["sgd", "momentum", "adam"])
def test_threads_do_not_change_a_bit(name, dtype):
    x, y = rows(600, dtype, missing=0.1)
    states = []
    for threads in (1, 2, 3):
        with dl.num_threads(threads):
            model = of_embeddings("category", dtype, dims=(8, 64, 32))
            fitted(model, x, y, optimizers()[name], batch_size=200)
            states.append(model.flat.tobytes() + model(x).tobytes())
    assert len(set(states)) == 1


@settings(max_examples=15, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    width=st.integers(1, 40),
    n=st.sampled_from([1, 2, 50, 130]),
    bias=st.booleans(),
    missing=st.sampled_from(["error", "category", "zeros"]),
)
def test_one_hot_columns_never_come_into_being(sizes, width, n, bias, missing):
    rng = np.random.default_rng(0)
    x = np.stack([rng.integers(size, size=n) for size in sizes], 1).astype(np.float64)
    if missing != "error":
        x[rng.random(x.shape) < 0.3] = np.nan
    model = dl.Sequential(
        dl.OneHotLinear(sizes, width, bias, missing=missing), dtype=np.float64, seed=1
    )
    blocks = []
    for j, size in enumerate(sizes):
        wide = np.zeros((n, size + 1))
        wide[np.arange(n), np.where(np.isnan(x[:, j]), size, x[:, j]).astype(int)] = 1
        blocks.append(wide if missing == "category" else wide[:, :size])
    wide = np.hstack(blocks)
    linear = dl.Sequential(dl.Linear(wide.shape[1], width, bias), dtype=np.float64, seed=2)
    linear.load_state_dict(model.state_dict())
    np.testing.assert_allclose(model(x), linear(wide), rtol=1e-12, atol=1e-13)
    dy = rng.normal(size=(n, width))
    model.forward(x), linear.forward(wide)
    assert not model.backward(dy).any()
    linear.backward(dy)
    for own, its in zip(model.grads(), linear.grads(), strict=True):
        np.testing.assert_allclose(own, its, rtol=1e-10, atol=1e-12)
    y = rng.normal(size=(n, width))
    for m, inputs in ((model, x), (linear, wide)):
        trainer = dl.Trainer(m, loss="mse", optimizer=dl.Adam(m.parameters(), lr=0.01), seed=0)
        trainer.fit(inputs, y, epochs=2, batch_size=10, verbose=0)
    for own, its in zip(model.parameters(), linear.parameters(), strict=True):
        np.testing.assert_allclose(own, its, rtol=1e-6, atol=1e-8)


def test_numbers_and_categories_are_one_linear_layer():
    both = dl.Parallel(
        dl.Linear(2, 4), dl.OneHotLinear([3], 4, bias=False), columns=[(0, 2), (2, 3)], join="sum"
    )
    model = dl.Sequential(both, dtype=np.float64, seed=0)
    x = np.array([[0.5, -1.0, 2.0], [1.5, 2.0, 0.0]])
    weight = np.hstack([both._children["0"].weight, both._children["1"].weight])
    wide = np.hstack([x[:, :2], np.eye(3)[x[:, 2].astype(int)]])
    np.testing.assert_allclose(model(x), wide @ weight.T + both._children["0"].bias)


BAD = [(40, IndexError, "codes 0 to 39"), (-1, IndexError, "codes 0 to 39")]
BAD += [(1.5, ValueError, "codes 0 to 39"), (np.inf, IndexError, "codes 0 to 39")]
BAD += [(np.nan, ValueError, "missing")]


@pytest.mark.parametrize(("value", "error", "message"), BAD, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_no_category_is_named_and_nothing_changes(value, error, message, dtype):
    model = of_embeddings(dtype=dtype)
    x, y = rows(100, dtype)
    model(x), model.forward(x)
    trainer = dl.Trainer(model, loss="cross_entropy", optimizer=dl.SGD(model.parameters(), lr=0.1))
    trainer.train_on_batch(x, y)
    before = model.flat.tobytes()
    x[70, 0] = value
    where = rf"x\[70, 0\] is .*{message}"
    for call in (
        lambda: model(x),
        lambda: model.snapshot()(x),
        lambda: model.forward(x),
        lambda: model.backward(x, np.ones((100, 3), dtype)),
        lambda: trainer.fit(x, y, epochs=1, verbose=0),
        lambda: trainer.train_on_batch(x, y),
    ):
        with pytest.raises(error, match=where):
            call()
    with pytest.raises(error, match=where.replace("x", "validation x", 1)):
        trainer.fit(*rows(9, dtype), epochs=1, validation_data=(x, y), verbose=0)
    if not np.isnan(value):
        with pytest.raises(error, match=r"x\[70, 0\]"):
            of_embeddings("category", dtype)(x)
    assert model.flat.tobytes() == before
    with pytest.raises(RuntimeError, match="forward"):
        model.backward(np.ones((100, 3), dtype))


@pytest.mark.parametrize("own", [False, True])
def test_what_is_no_category_in_a_file_is_found_by_the_step(tmp_path, own):
    class Own(dl.SGD):
        def step(self, grads):
            super().step(grads)

    model = of_embeddings(dtype=np.float32)
    x, y = rows(300, np.float32)
    x[250, 2] = 1
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    from dlcore.training import _dataset

    optimizer = (Own if own else dl.SGD)(model.parameters(), lr=0.1)
    trainer = dl.Trainer(model, loss="cross_entropy", optimizer=optimizer)
    least, _dataset.MappedFile.least = _dataset.MappedFile.least, 1
    try:
        with pytest.raises(IndexError, match=r"x\[250, 2\] is 1"):
            trainer.fit(mapped, y, epochs=1, verbose=0)
    finally:
        _dataset.MappedFile.least = least
    assert np.isfinite(model.flat).all()


def test_missing_categories_train_beside_finite_numbers_as_fast_as_any():
    """NaN in a column of codes does not make the update one that is taken back."""
    model = of_embeddings("zeros", np.float32)
    x, y = rows(400, np.float32, missing=0.3)
    fitted(model, x, y, optimizers()["adam"])
    assert np.isfinite(model.flat).all()
    assert np.isfinite(model(x)).all()


def test_only_rows_of_the_batch_have_gradients():
    model = dl.Sequential(dl.Embedding(1000, 8), dtype=np.float32, seed=0)
    x = np.array([[3.0], [999.0], [3.0]], np.float32)
    model.forward(x)
    model.backward(np.ones((3, 8), np.float32))
    (grad,) = model.grads()
    assert set(np.flatnonzero(grad.any(1))) == {3, 999}
    np.testing.assert_array_equal(grad[3], 2)


def test_frozen_tables_stay():
    model = of_embeddings()
    model.freeze("0.1.weight")
    before = model.state_dict()
    x, y = rows(200)
    fitted(model, x, y, optimizers()["adam"])
    after = model.state_dict()
    np.testing.assert_array_equal(before["0.1.weight"], after["0.1.weight"])
    assert (before["0.0.weight"] != after["0.0.weight"]).any()


def test_groups_of_parameters():
    model = of_embeddings()
    tables = [f"0.{i}.weight" for i in range(3)]
    groups = [
        {"params": model.parameters(*tables), "lr": 0.0},
        {"params": model.parameters("1", "3")},
    ]
    before = model.state_dict()
    x, y = rows(200)
    fitted(model, x, y, lambda _: dl.Adam(groups, lr=0.01))
    after = model.state_dict()
    for name in tables:
        np.testing.assert_array_equal(before[name], after[name])
    assert (before["1.weight"] != after["1.weight"]).any()


def test_copies_and_pickles():
    model = of_embeddings("category")
    x, _ = rows(20, missing=0.3)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), model[:]):
        np.testing.assert_array_equal(other(x), model(x))
    one_hot_linear = dl.Sequential(dl.OneHotLinear([4, 5], 3), seed=0)
    x = np.array([[1, 2], [3, 4]], np.float32)
    other = pickle.loads(pickle.dumps(one_hot_linear))
    np.testing.assert_array_equal(other(x), one_hot_linear(x))


def test_sparse_rows_of_codes():
    scipy_sparse = pytest.importorskip("scipy.sparse")
    model = of_embeddings()
    x, y = rows(100)
    sparse = scipy_sparse.csr_matrix(x)
    np.testing.assert_array_equal(model(sparse), model(x))
    other = copy.deepcopy(model)
    fitted(model, x, y, optimizers()["adam"])
    fitted(other, sparse, y, optimizers()["adam"])
    np.testing.assert_allclose(other.flat, model.flat, rtol=1e-12)
    x[70, 0] = 40
    bad = scipy_sparse.csr_matrix(x)
    for call in (lambda: model(bad), lambda: fitted(model, bad, y, optimizers()["adam"])):
        with pytest.raises(IndexError, match=r"x\[70, 0\] is 40"):
            call()


def test_codes_that_a_transform_makes():
    model = of_embeddings(dtype=np.float32)
    x, y = rows(100, np.float32)
    raw = x.copy()
    raw[:, list(COLUMNS)] += 100  # what stands in the table, of which the transform makes codes

    def transform(batch, rng):
        batch[:, list(COLUMNS)] -= 100
        return batch

    trainer = dl.Trainer(model, loss="cross_entropy", seed=0)
    trainer.fit(raw, y, epochs=1, transform=transform, verbose=0)
    raw[3, 0] = 99
    with pytest.raises(IndexError, match="is -1, but"):
        trainer.fit(raw, y, epochs=1, transform=transform, verbose=0)
    with pytest.raises(IndexError):
        trainer.fit(raw, y, epochs=1, verbose=0)


def test_initialize_leaves_tables():
    model = of_embeddings()
    before = tables_of(model)
    dl.initialize(model, "kaiming_normal", seed=0)
    for own, its in zip(before, tables_of(model), strict=True):
        np.testing.assert_array_equal(own, its)


def test_shapes_are_known_before():
    assert dl.Embedding(1000, 8).parameter_shapes == {"weight": (1000, 8)}
    assert dl.Embedding(1000, 8, missing="category").parameter_shapes == {"weight": (1001, 8)}
    layer = dl.CategoricalEmbeddings([3, 4], 5, columns=[6, 1], in_features=9)
    assert (layer.in_features, layer.out_features) == (9, 7 + 10)
    assert layer.columns == [6, 1]
    assert layer.embedding_dims == [5, 5]
    assert dl.OneHotLinear([3, 4], 5).parameter_shapes == {"weight": (5, 7), "bias": (5,)}


WRONG = [
    (lambda: dl.Embedding(0, 3), ValueError, "num_embeddings"),
    (lambda: dl.Embedding(3, 2.0), ValueError, "embedding_dim"),
    (lambda: dl.Embedding(3, 2, missing="ignore"), ValueError, "missing.*'zeros'"),
    (lambda: dl.CategoricalEmbeddings([]), ValueError, "one column or more"),
    (lambda: dl.CategoricalEmbeddings(3), TypeError, "cardinalities"),
    (lambda: dl.CategoricalEmbeddings([3, 4], [2]), ValueError, "embedding_dims"),
    (lambda: dl.CategoricalEmbeddings([3, 4], columns=[1]), ValueError, "columns must be 2"),
    (lambda: dl.CategoricalEmbeddings([3, 4], columns=[1, 1]), ValueError, "different"),
    (lambda: dl.CategoricalEmbeddings([3, 4], columns=[0.5, 1]), TypeError, "columns"),
    (lambda: dl.CategoricalEmbeddings([3], columns=[5], in_features=3), ValueError, "up to 6"),
    (lambda: dl.CategoricalEmbeddings([3], in_features=3), ValueError, "all 1"),
    (lambda: dl.OneHotLinear([3, 0], 2), ValueError, "cardinalities"),
    (lambda: dl.Sequential(dl.ReLU(), dl.Embedding(3, 2)), ValueError, "columns of x"),
    (
        lambda: dl.Sequential(dl.Linear(3, 2), dl.Parallel(dl.OneHotLinear([3, 2], 2))),
        ValueError,
        "columns of x",
    ),
]


@pytest.mark.parametrize(("make", "error", "message"), WRONG)
def test_wrong_layers(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_layers_keep_their_sizes():
    layer = dl.Sequential(dl.Embedding(3, 2), seed=0)[0]
    with pytest.raises(AttributeError, match="cannot be changed"):
        layer.num_embeddings = 4
    layer.weight = np.ones((3, 2), np.float32)
    assert (layer.weight == 1).all()
    with pytest.raises(ValueError, match="shape"):
        layer.weight = np.ones((2, 2), np.float32)


def test_float32_has_an_end():
    with pytest.raises(ValueError, match=r"more categories than float32 has codes for, 16,777,216"):
        dl.Sequential(dl.Embedding(2**24 + 1, 1))
