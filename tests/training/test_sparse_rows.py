"""x as a matrix of scipy.sparse, and as integers that a transform makes numbers of."""

import tracemalloc

import numpy as np
import pytest

import dlcore as dl

sparse = pytest.importorskip("scipy.sparse")
RNG = np.random.default_rng(0)
N = 64
DENSE = (RNG.normal(size=(N, 30)) * (RNG.random((N, 30)) < 0.1)).astype(np.float32)
ROWS, Y = sparse.csr_array(DENSE), RNG.integers(0, 2, N)
KINDS = [
    "csr_array",
    "csr_matrix",
    "csc_array",
    "coo_matrix",
    "lil_array",
    "dok_array",
    "bsr_array",
]


def trainer(loss="cross_entropy", **options):
    model = dl.Sequential(dl.Linear(30, 8), dl.ReLU(), dl.Linear(8, 2), seed=0)
    return dl.Trainer(model, loss=loss, seed=0, **options)


def fit(t, *data, **options):
    return t.fit(*data, epochs=2, verbose=0, **options)


@pytest.mark.parametrize("kind", KINDS)
def test_sparse_rows_give_what_dense_ones_give(kind):
    x = getattr(sparse, kind)(ROWS)
    a, b = (trainer(metrics=["accuracy"]) for _ in range(2))
    assert fit(a, x, Y, validation_split=0.2) == fit(b, DENSE, Y, validation_split=0.2)
    np.testing.assert_array_equal(a.predict(x), b.predict(DENSE))
    assert a.evaluate(x, Y) == b.evaluate(DENSE, Y)
    halves = [(x.tocsr()[:32], Y[:32]), (x.tocsr()[32:], Y[32:])]
    assert a.evaluate(halves) == pytest.approx(b.evaluate(DENSE, Y))


class OwnLoss(dl.CrossEntropyLoss):
    """Called in Python, as every class of the user's own is."""


@pytest.mark.parametrize(
    ("options", "of_fit"),
    [
        ({"loss": OwnLoss()}, {}),
        ({}, {"transform": lambda x, rng: x + 1}),  # noqa: ARG005
        ({}, {"sample_weight": (Y > 0) * 1.0}),
        ({"callbacks": [dl.StochasticWeightAveraging(0)]}, {}),
        ({"accumulate": 3}, {}),
    ],
)
def test_sparse_rows_go_together_with_the_rest(options, of_fit):
    a, b = trainer(**options), trainer(**options)
    assert fit(a, ROWS, Y, **of_fit) == fit(b, DENSE, Y, **of_fit)
    np.testing.assert_array_equal(a.model.flat, b.model.flat)


def with_indices(indices, indptr):
    x = ROWS.copy()
    x.indices, x.indptr = indices(x.indices), indptr(x.indptr)
    return x


def test_indices_of_any_width_and_elements_that_are_there_twice():
    expected = fit(trainer(), DENSE, Y)
    wide = lambda i: i.astype(np.int64)
    for indices, indptr in ((wide, wide), (wide, np.copy), (np.copy, wide)):
        assert fit(trainer(), with_indices(indices, indptr), Y) == expected
    ones = np.ones(4, np.float32)
    twice = sparse.csr_array((ones, [0, 0, 1, 1], [0, 2, 4]), shape=(2, 30))
    np.testing.assert_array_equal(trainer().predict(twice), trainer().predict(twice.toarray()))


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (ROWS.astype(np.float64), TypeError, r"x is float64, the model float32: pass x\.astype"),
        (ROWS[:, :3], ValueError, r"x must have shape \(N, 30\), not \(64, 3\)"),
        (with_indices(lambda i: i + 1, np.copy), ValueError, "indices must be < 30"),
    ],
)
def test_sparse_rows_that_do_not_fit(x, error, message):
    for call in (lambda t: fit(t, x, Y), lambda t: t.evaluate(x, Y), lambda t: t.predict(x)):
        with pytest.raises(error, match=message):
            call(trainer())


def test_no_dense_copy_is_made():
    rows, features = 3000, 20_000  # 240 MB
    x = sparse.random_array((rows, features), density=1e-4, dtype=np.float32, rng=0).tocsr()
    model = dl.Sequential(dl.Linear(features, 2), seed=0)
    t = dl.Trainer(model, loss="cross_entropy", optimizer=dl.SGD(model.parameters()))
    y = np.zeros(rows, int)
    tracemalloc.start()
    t.fit(x, y, epochs=1, validation_split=0.2, verbose=0)
    t.evaluate(x, y)
    t.predict(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 80e6


# ---- integers that a transform makes numbers of

BYTES = RNG.integers(0, 256, (N, 30), dtype=np.uint8)


def scaled(x, rng=None):
    return x.astype(np.float32) / 255


def test_bytes_with_a_transform():
    a, b = trainer(), trainer()
    same = lambda x, rng: x  # noqa: ARG005
    assert fit(a, BYTES, Y, transform=scaled) == fit(b, scaled(BYTES), Y, transform=same)
    np.testing.assert_array_equal(a.model.flat, b.model.flat)
    with_validation = fit(trainer(), BYTES, Y, transform=scaled, validation_data=(scaled(BYTES), Y))
    assert len(with_validation["val_loss"]) == 2
    fit(trainer(), BYTES, Y, transform=scaled, mix=dl.mixup(0.2))
    averaged = [dl.StochasticWeightAveraging(0)]
    layers = dl.Linear(30, 4), dl.BatchNorm1d(4), dl.Linear(4, 2)
    model = dl.Sequential(*layers, seed=0)
    fit(dl.Trainer(model, loss="cross_entropy", callbacks=averaged), BYTES, Y, transform=scaled)
    assert np.isfinite(model[1].running_var).all()


def test_bytes_that_nothing_makes_numbers_of():
    with pytest.raises(TypeError, match="x is uint8, the model float32"):
        fit(trainer(), BYTES, Y)
    with pytest.raises(ValueError, match="transform must return x as float32"):
        fit(trainer(), BYTES, Y, transform=lambda x, rng: x)  # noqa: ARG005
    with pytest.raises(ValueError, match=r"validation_split takes rows of x as they are, uint8"):
        fit(trainer(), BYTES, Y, transform=scaled, validation_split=0.2)
    with pytest.raises(TypeError, match="x must hold numbers, not <U1"):
        fit(trainer(), np.full((N, 30), "a"), Y, transform=scaled)
