"""Threads: their number, equal bits, fork, and the GIL."""

import os
import threading
import time

import numpy as np
import pytest

import dlcore as dl
from dlcore._native import cores, threads
from support.marks import with_openmp
from support.processes import run_python

LARGE = 3_000_000


@with_openmp
def test_num_threads_is_set_and_restored():
    before = dl.get_num_threads()
    with dl.num_threads(before + 1):
        assert dl.get_num_threads() == before + 1
        with pytest.raises(KeyError), dl.num_threads(1):
            raise KeyError
        assert dl.get_num_threads() == before + 1
    assert dl.get_num_threads() == before


@pytest.mark.parametrize("n", [0, -1, 1025])
def test_num_threads_out_of_range(n):
    with pytest.raises(ValueError, match="n must be between 1 and 1024"):
        dl.set_num_threads(n)


@pytest.mark.parametrize("n", [1.5, "2", None, True])
def test_num_threads_no_integer(n):
    with pytest.raises(TypeError, match="n must be an integer"):
        dl.set_num_threads(n)


@with_openmp
@pytest.mark.parametrize(
    ("env", "expected", "source"),
    [
        ({"DLCORE_NUM_THREADS": "3", "OMP_NUM_THREADS": "5"}, 3, "DLCORE_NUM_THREADS"),
        ({"DLCORE_NUM_THREADS": "", "OMP_NUM_THREADS": "5,2"}, 5, "OMP_NUM_THREADS"),
    ],
)
def test_number_of_threads_from_the_environment(env, expected, source):
    code = (
        "import dlcore; from dlcore._native import threads;"
        "print(dlcore.get_num_threads(), threads.default_num_threads()[1])"
    )
    assert run_python(code, **env) == f"{expected} {source}"


@pytest.mark.parametrize("value", ["0", "two", "-1", "1.5", "5000"])
def test_bad_number_in_the_environment(value):
    code = "try:\n import dlcore\nexcept ImportError as e:\n print(e)\nelse:\n print('no error')"
    printed = run_python(code, DLCORE_NUM_THREADS=value)
    assert printed == f"DLCORE_NUM_THREADS='{value}' must be an integer between 1 and 1024"


def test_quota_of_the_control_group_counts(monkeypatch):
    monkeypatch.delenv("DLCORE_NUM_THREADS", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(cores, "usable_cores", lambda: 16)
    monkeypatch.setattr(cores, "quota", lambda: 3)
    n, source = threads.default_num_threads()
    assert n == 3
    assert "quota" in source
    monkeypatch.setattr(cores, "quota", lambda: None)
    assert threads.default_num_threads()[0] == 16


def test_same_bits_with_any_number_of_threads(isa):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((100_003, 7), dtype=np.float32)
    y = rng.integers(0, 7, len(x))
    results = []
    for n in (1, 2, 3, 4, 8):
        with dl.num_threads(n):
            loss, grad = dl.cross_entropy_and_grad(x, y)
            stats = dl.column_stats(x)
            mse = dl.mse_loss(x, x[::-1].copy(), reduction="sum")
        results.append([loss, grad, stats.mean, stats.var, mse])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
def test_kernels_work_in_the_child_of_a_fork():
    # In a process of its own: pytest's may have threads that forking warns about.
    code = f"""
import os, sys
import numpy as np, dlcore as dl
x = np.linspace(-3, 3, {LARGE}, dtype=np.float32)
with dl.num_threads(2):
    expected = dl.sigmoid(x)  # the pool of threads exists now
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(dl.sigmoid(x), expected) else 1)
    _, status = os.waitpid(child, 0)
    assert np.array_equal(dl.sigmoid(x), expected)
print(os.waitstatus_to_exitcode(status))
"""
    assert run_python(code) == "0"


def test_the_gil_is_released():
    # While a kernel runs, another thread must get on: it counts, and is looked at when the kernel
    # is back. With the GIL held the count would stand still for the whole call.
    x = np.full(20_000_000, 0.5)
    counts = [0]
    stop = threading.Event()

    def count():
        while not stop.is_set():
            counts[0] += 1
            time.sleep(0)

    thread = threading.Thread(target=count)
    thread.start()
    try:
        with dl.num_threads(1):
            before = counts[0]
            for _ in range(3):
                dl.gelu(x, out=x)
            after = counts[0]
    finally:
        stop.set()
        thread.join()
    assert after - before > 20


def test_kernels_from_several_python_threads():
    rng = np.random.default_rng(1)
    xs = [rng.standard_normal((50_000, 10)) for _ in range(4)]
    ys = [rng.integers(0, 10, 50_000) for _ in range(4)]
    expected = [dl.cross_entropy_and_grad(x, y) for x, y in zip(xs, ys, strict=True)]
    got = [None] * 4

    def work(i):
        for _ in range(5):
            got[i] = dl.cross_entropy_and_grad(xs[i], ys[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for (loss, grad), (loss_expected, grad_expected) in zip(got, expected, strict=True):
        assert loss == loss_expected
        assert np.array_equal(grad, grad_expected)
