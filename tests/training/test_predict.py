"""`predict`: outputs into arrays and files, of one process and of several ranks, to the same bits."""

import os
import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse

import dlcore as dl
from dlcore.training import _dataset
from support.ranks import on_ranks

N = 1001
X = np.random.default_rng(0).normal(size=(N, 20)).astype(np.float32)
X[np.abs(X) < 0.5] = 0
MODEL = dl.Sequential(dl.Linear(20, 33), dl.ReLU(), dl.Dropout(0.5), dl.Linear(33, 5), seed=0)
Y = MODEL(X)

SOURCES = {
    "array": lambda _: X,
    "columns": lambda _: np.asfortranarray(X),
    "map": lambda folder: np.load(saved(folder / "x.npy", X), mmap_mode="r"),
    "sparse": lambda _: scipy.sparse.csr_array(X),
}
BATCHES = {
    "list": lambda: [X[:300], X[300:300], X[300:]],
    "pairs": lambda: [(X[:1000], None), (X[1000:], None)],
    "generator": lambda: (X[i : i + 64] for i in range(0, N, 64)),
}


def saved(path, array):
    np.save(path, array)
    return path


def new(folder, dtype=np.float32, shape=Y.shape, mode="w+"):
    return np.lib.format.open_memmap(folder / "y.npy", mode, dtype, shape)


TARGETS = {
    "new": lambda _: None,
    "array": lambda _: np.full(Y.shape, np.nan, np.float32),
    "strided": lambda _: np.full((2 * N, 10), np.nan, np.float32)[::2, ::2],
    "map": lambda folder: new(folder),
    "path": lambda folder: folder / "out.npy",
    "text": lambda folder: str(folder / "out.npy"),
}


@pytest.fixture
def _small_maps(monkeypatch):
    monkeypatch.setattr(_dataset.MappedFile, "least", 1)


@pytest.mark.usefixtures("_small_maps")
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("source", SOURCES)
def test_rows(source, target, tmp_path):
    out = TARGETS[target](tmp_path)
    y = dl.predict(MODEL, SOURCES[source](tmp_path), out, batch_size=100)
    np.testing.assert_array_equal(y, Y)
    assert not isinstance(out, np.ndarray) or y is out
    if target in ("path", "text"):
        assert isinstance(y, np.memmap)
        assert not y.flags.writeable
        np.testing.assert_array_equal(np.load(out), Y)
    if target == "map":
        np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), Y)
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".tmp")]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("source", BATCHES)
def test_batches(source, target, tmp_path):
    y = dl.predict(MODEL, BATCHES[source](), TARGETS[target](tmp_path), batch_size=100)
    np.testing.assert_array_equal(y, Y)
    if target == "path":
        np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), Y)


@pytest.mark.usefixtures("_small_maps")
@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("source", ["map", "sparse"])
def test_ranks(source, target, size, tmp_path):
    rows = SOURCES[source](tmp_path)
    if target == "map":
        new(tmp_path)

    def on_rank(comm):
        out = new(tmp_path, mode="r+") if target == "map" else TARGETS[target](tmp_path)
        model = MODEL.snapshot()
        return dl.predict(model, rows, out, batch_size=100, comm=comm)

    for y in on_ranks(size, on_rank):
        np.testing.assert_array_equal(y, Y)
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".tmp")]


def test_each_rank_computes_its_share_alone():
    class Counted:
        dtype, in_features, out_features = MODEL.dtype, 20, 5

        def __init__(self):
            self.sizes = []

        def __call__(self, x):
            self.sizes.append(len(x))
            return MODEL(x)

    def on_rank(comm):
        counted = Counted()
        dl.predict(counted, X, batch_size=100, comm=comm)
        return counted.sizes

    assert on_ranks(3, on_rank) == [[100] * 3, [100] * 4, [100] * 3 + [1]]
    assert on_ranks(2, lambda comm: len(dl.predict(MODEL, X[:3], comm=comm))) == [3, 3]


@pytest.mark.parametrize("target", TARGETS)
def test_no_rows(target, tmp_path):
    out = TARGETS[target](tmp_path)
    if isinstance(out, np.ndarray):
        out = np.empty((0, 5), np.float32)
    assert dl.predict(MODEL, X[:0], out).shape == (0, 5)


def test_models():
    trainer = dl.Trainer(MODEL, loss="cross_entropy")
    np.testing.assert_array_equal(dl.predict(trainer, X), Y)
    ensemble = dl.Ensemble([MODEL, MODEL], of="outputs")
    np.testing.assert_array_equal(dl.predict(ensemble, X, batch_size=7), ensemble(X))
    keeps_width = dl.Sequential(dl.ReLU())
    np.testing.assert_array_equal(dl.predict(keeps_width, X, batch_size=7), np.maximum(X, 0))


READ_ONLY = np.empty(Y.shape, np.float32)
READ_ONLY.flags.writeable = False
WRONG = {
    "model": ((np.sin, X), TypeError, "model must be a Sequential, Trainer, Ensemble or Snapshot"),
    "source": ((MODEL, X[:, :3]), ValueError, r"source must have shape \(N, 20\)"),
    "no source": ((MODEL, 3), TypeError, "source must be an array"),
    "dtype": ((MODEL, X, np.empty(Y.shape)), TypeError, "out is float64, the outputs are float32"),
    "shape": ((MODEL, X, Y[1:]), ValueError, r"outputs' shape \(1001, 5\), not \(1000, 5\)"),
    "dimensions": ((MODEL, X, Y[:, 0]), ValueError, r"outputs' shape \(1001, 5\), not \(1001,\)"),
    "width": ((MODEL, [X], Y[:, 1:]), ValueError, r"outputs' shape \(N, 5\), not \(1001, 4\)"),
    "read-only": ((MODEL, X, READ_ONLY), ValueError, "out is read-only"),
    "masked": ((MODEL, X, np.ma.array(Y)), TypeError, "masked"),
    "list": ((MODEL, X, [1]), TypeError, "out must be an array or a path, not list"),
    "suffix": ((MODEL, X, "y.bin"), ValueError, "out must end in .npy where it is a path"),
    "no folder": ((MODEL, X, "nowhere/y.npy"), OSError, "nowhere/y.npy could not be written"),
    "no batches": ((MODEL, [], "y.npy"), ValueError, "source has no batches"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_before_anything_is_written(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given, error, message = WRONG[case]
    before = Y.copy()
    with pytest.raises(error, match=message):
        dl.predict(*given)
    assert not os.listdir(tmp_path)
    np.testing.assert_array_equal(Y, before)


def test_outputs_in_the_place_of_the_rows():
    same = dl.Sequential(dl.Linear(20, 20), seed=0)
    rows = X.copy()
    with pytest.raises(ValueError, match="out shares memory with source"):
        dl.predict(same, rows, rows)
    beside = np.zeros((N, 40), np.float32)
    beside[:, :20] = X
    dl.predict(same, beside[:, :20], beside[:, 20:])
    np.testing.assert_array_equal(beside[:, 20:], same(X))


def test_options():
    with pytest.raises(ValueError, match="batch_size"):
        dl.predict(MODEL, X, batch_size=0)
    for model, source, batch_size in (
        (MODEL, [X], 9),  # on one rank alone
        (MODEL, X, 0),
        (np.sin, X, 9),
    ):

        def on_rank(comm, given=(model, source, batch_size)):
            model, source, batch_size = given if comm.rank else (MODEL, X, 9)
            dl.predict(model, source, batch_size=batch_size, comm=comm)

        first, second = on_ranks(2, on_rank)
        assert str(second) in str(first)
        assert "rank 1 of 2" in str(first)


@pytest.mark.parametrize("batches", [[X, X[:1]], [X[:5]], [X[:5], X[:5, :3]]])
def test_batches_that_do_not_fit(batches, tmp_path):
    with pytest.raises(ValueError, match=r"out has|must have shape"):
        dl.predict(MODEL, batches, np.empty(Y.shape, np.float32))
    if len(batches[-1][0]) == 3:  # which a file notices as well, and is as it was
        path = saved(tmp_path / "y.npy", Y)
        with pytest.raises(ValueError, match="batch 2: source must have shape"):
            dl.predict(MODEL, batches, path)
        np.testing.assert_array_equal(np.load(path), Y)
        assert os.listdir(tmp_path) == ["y.npy"]


@pytest.mark.parametrize("failing", [0, 1])
def test_a_rank_that_fails_leaves_the_file_as_it_was(failing, tmp_path):
    path = saved(tmp_path / "y.npy", Y[:7])

    class Failing:
        dtype, in_features, out_features = MODEL.dtype, 20, 5

        def __init__(self, rank):
            self.rank = rank

        def __call__(self, x):
            if self.rank == failing:
                raise FloatingPointError("too hot")
            return MODEL(x)

    errors = on_ranks(
        2, lambda comm: dl.predict(Failing(comm.rank), X, path, batch_size=100, comm=comm)
    )
    assert all(isinstance(error, FloatingPointError) for error in errors)
    assert [str(error) for error in errors] == [f"rank {failing} of 2: too hot"] * 2
    np.testing.assert_array_equal(np.load(path), Y[:7])
    assert os.listdir(tmp_path) == ["y.npy"]


def test_ranks_that_are_given_several_things():
    errors = on_ranks(2, lambda comm: dl.predict(MODEL, X[comm.rank :], comm=comm))
    assert all("must be the same on all ranks" in str(error) for error in errors)
    errors = on_ranks(
        2, lambda comm: dl.predict(MODEL, X, "y.npy" if comm.rank else None, comm=comm)
    )
    assert all("must be the same on all ranks" in str(error) for error in errors)


GROWTH = """
import resource, sys
import numpy as np
import dlcore as dl
folder, n, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
x = np.memmap(folder + "/x", np.float32, "r", shape=(n, 250))
model = dl.Sequential(dl.Linear(250, 125), seed=0)
out = folder + "/y.npy"
dl.predict(model, x[:9000], out)
if kind == "map":
    out = np.lib.format.open_memmap(out, "w+", np.float32, (n, 125))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
y = dl.predict(model, x, out)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
assert y.shape == (n, 125)
assert (y[::9999] == model.layers[0].bias).all()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux alone")
@pytest.mark.parametrize("kind", ["map", "path"])
def test_memory_does_not_grow_with_the_files(kind, tmp_path):
    """A sparse file of 300 MB is read, one of 150 MB written."""
    n = 300_000
    with (tmp_path / "x").open("wb") as file:
        file.truncate(n * 1000)
    grown = subprocess.run(
        [sys.executable, "-c", GROWTH, str(tmp_path), str(n), kind],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    ).stdout
    assert float(grown) < 75
