"""Ranks that are processes, with MPI between them, come to what ranks that are threads do."""

from pathlib import Path

import numpy as np
import pytest

from support.processes import run_ranks
from support.sharded_fits import MODES, fit_of, fits_on_ranks, numbers_of

TESTS = Path(__file__).parents[1]
SCRIPT = """
import sys
import numpy as np
from mpi4py import MPI

folder, tests = sys.argv[1:]
sys.path.insert(0, tests)
from support.sharded_fits import MODES, X, LABELS, fit_of, network, numbers_of, trainer_of

comm = MPI.COMM_WORLD
for mode in MODES:
    np.save(f"{folder}/{mode}-{comm.rank}.npy", numbers_of(fit_of(mode, comm)))
x = X[:40].copy()
x[3 * comm.rank, 1] = np.nan if comm.rank == comm.size - 1 else 0
for options in {"sharded": True}, {"sharded": True, "average_every": 2}:
    try:
        trainer_of(network(), comm, **options).fit(x, LABELS[:40], epochs=1, verbose=0)
    except FloatingPointError as error:
        print(f"[{error}]", flush=True)
"""


@pytest.mark.parametrize("size", [2, 3])
def test_processes(tmp_path, size):
    written = run_ranks(size, "-c", SCRIPT, tmp_path, TESTS, DLCORE_NUM_THREADS="1")
    named = f"x[{3 * size - 3}, 1] is nan"
    assert written.count(named) == 2 * size
    assert written.count(f"rank {size - 1} of {size}") >= 2 * size
    for mode in MODES:
        numbers = [np.load(tmp_path / f"{mode}-{rank}.npy") for rank in range(size)]
        for own in numbers[1:]:
            np.testing.assert_array_equal(own, numbers[0], err_msg=mode)
        threads = fits_on_ranks(size, lambda comm: fit_of(mode, comm))  # noqa: B023
        np.testing.assert_allclose(numbers[0], numbers_of(threads[0]), rtol=1e-9, atol=1e-12)
