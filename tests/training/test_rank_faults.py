"""Processes under MPI that share a fit: the bits of one, and the end of all where one of them fails."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dlcore._native import threads
from support.processes import mpiexec, run_ranks
from support.rank_fits import fit

pytest.importorskip("mpi4py")

BEGIN = f"""
import os, signal, sys, time
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
import numpy as np
from mpi4py import MPI
import dlcore as dl
from dlcore._common.shared_memory import SharedMemory
from support.rank_fits import fit, share_all

share_all()
comm, folder = MPI.COMM_WORLD, sys.argv[1]
"""

SHARED = (
    BEGIN
    + """
np.save(f"{folder}/{comm.rank}.npy", fit(comm))
assert len(SharedMemory.of(comm).parts) == comm.size
if comm.rank == 0:
    config = dl.show_config("dicts")["threads"]
    print(config["number"], config["source"])
"""
)

FAILING = (
    BEGIN
    + """
what = sys.argv[2]

class Fault(dl.Callback):
    def on_batch_end(self, batch, logs):
        if comm.rank != comm.size - 1 or len(self.trainer.history.get("loss", ())) < 2:
            return
        if what != "goes on":
            with open(folder + "/failed at", "w") as file:
                file.write(repr(time.time()))
        if what == "raises":
            raise OSError("the disk is full")
        if what == "dies":
            os.kill(os.getpid(), signal.SIGKILL)

checkpoint = dl.ModelCheckpoint(folder + "/run.safetensors")
fit(comm, epochs=10**6, verbose=2, callbacks=[checkpoint, Fault()])
"""
)

RESUMED = (
    BEGIN
    + """
path = folder + "/run.safetensors"
flat = fit(comm, epochs=6, resume=path, callbacks=[dl.ModelCheckpoint(path)])
if comm.rank == 0:
    np.save(folder + "/end.npy", flat)
"""
)


def run(size, script, *arguments):
    """Run a script on so many ranks; return its exit code and what it wrote."""
    ended = subprocess.run(
        [mpiexec(), "-n", str(size), sys.executable, "-c", script, *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return ended.returncode, ended.stdout + ended.stderr


def test_processes_end_with_the_bits_of_one(tmp_path):
    alone = fit(None)
    for size in (2, 3):
        run_ranks(size, "-c", SHARED, tmp_path, DLCORE_NUM_THREADS="1")
        for rank in range(size):
            np.testing.assert_array_equal(np.load(tmp_path / f"{rank}.npy"), alone)


def test_ranks_of_a_machine_divide_its_cores(monkeypatch, tmp_path):
    for name in ("DLCORE_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    said = run_ranks(2, "-c", SHARED, tmp_path)
    assert said.split()[0] == str(max(1, threads.default_num_threads()[0] // 2)), said
    assert "for 2 ranks" in said


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("raises", ["rank 1 of 2 failed and ends the job: OSError: the disk is full"]),
        ("dies", ["Killed (signal 9)", "rank 1: process {}"]),
    ],
)
def test_a_rank_that_fails_ends_the_job_and_the_checkpoint_goes_on(what, said, tmp_path):
    code, text = run(2, FAILING, tmp_path, what)
    ended = time.time()
    assert code != 0
    pid = re.search(r"PID (\d+)", text)
    for some in said:
        assert some.format(pid and pid[1]) in text, text
    assert ended - float((tmp_path / "failed at").read_text()) < 10
    assert run(3, RESUMED, tmp_path)[0] == 0
    np.testing.assert_array_equal(np.load(tmp_path / "end.npy"), fit(None, epochs=6))


def test_a_signal_of_the_terminal_ends_all(tmp_path):
    process = subprocess.Popen(
        [mpiexec(), "-n", "2", sys.executable, "-c", FAILING, str(tmp_path), "goes on"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    path = tmp_path / "run.safetensors"
    deadline = time.monotonic() + 100
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode != 0
