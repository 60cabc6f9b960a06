"""What the ranks of threads are tested for elsewhere, once between processes under MPI."""

import numpy as np
import pytest

import dlcore as dl
from dlcore.metrics import metric_named
from support.processes import run_ranks

SCRIPT = """
import sys
import numpy as np
from mpi4py import MPI
import dlcore as dl
from dlcore.metrics import metric_named

comm, folder = MPI.COMM_WORLD, sys.argv[1]
x, y = np.load(folder + "/x.npy", mmap_mode="r"), np.load(folder + "/y.npy")
cut = 170
some = slice(cut) if comm.rank == 0 else slice(cut, None)
stats = dl.column_stats(x[some], comm=comm)
robust = dl.RobustNormalizer().fit(x[some], comm=comm)
stream = dl.ZScoreNormalizer()
for row in range(0, len(x[some]), 50):
    stream.partial_fit(x[some][row : row + 50])
stream.merge(comm)
model = dl.Sequential(dl.Linear(6, 3), seed=0)
f1 = metric_named("f1", dl.CrossEntropyLoss())(y[some], model(x[some]), comm=comm)
made = dl.predict(model, x, batch_size=64, comm=comm)
dl.predict(model, x, folder + "/outputs.npy", batch_size=64, comm=comm)
np.savez(
    f"{folder}/rank{comm.rank}.npz", mean=stats.mean, var=stats.var, f1=f1, made=made,
    scale=robust.scale_, stream=stream.mean_,
)
try:
    dl.column_stats(x[:, : 6 - comm.rank], comm=comm)
except ValueError as error:
    assert "5 on rank 1" in str(error)
else:
    raise AssertionError("other columns are an error")
"""


def test_two_processes(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(400, 6)).astype(np.float32), rng.integers(0, 3, 400)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    run_ranks(2, "-c", SCRIPT, tmp_path, DLCORE_NUM_THREADS="1")
    first, second = (np.load(tmp_path / f"rank{rank}.npz") for rank in range(2))
    for name in ("mean", "var", "f1", "made", "scale", "stream"):
        np.testing.assert_array_equal(first[name], second[name])
    np.testing.assert_allclose(first["mean"], x.astype(float).mean(0), rtol=1e-12)
    np.testing.assert_allclose(first["stream"], first["mean"], rtol=1e-12)
    np.testing.assert_array_equal(first["scale"], dl.RobustNormalizer().fit(x).scale_)
    model = dl.Sequential(dl.Linear(6, 3), seed=0)
    np.testing.assert_array_equal(first["made"], model(x))
    np.testing.assert_array_equal(np.load(tmp_path / "outputs.npy"), model(x))
    f1 = metric_named("f1", dl.CrossEntropyLoss())
    assert first["f1"] == pytest.approx(f1(y, model(x)), rel=1e-12)
