"""Whose number of threads holds where: processes, Python threads, forks, OpenMP's own settings."""

import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import threadpoolctl

import dlcore as dl
from dlcore._native import dispatch, threadpools, threads
from support.marks import with_openmp
from support.processes import run_python

pytestmark = with_openmp
linux = pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")


@pytest.fixture
def undecided():
    """No number but the default."""
    before = dispatch.core.process_num_threads()
    dispatch.core.set_num_threads(0)
    yield threads.default_num_threads()[0]
    dispatch.core.set_num_threads(before)


def test_blocks_of_two_threads_do_not_disturb_each_other():
    inside, leave = threading.Barrier(2), threading.Barrier(2)
    before = dl.get_num_threads()

    def block(n):
        seen = []
        with dl.num_threads(n):
            inside.wait()
            seen.append(dl.get_num_threads())
            leave.wait()
            seen.append(dl.get_num_threads())
        return seen, dl.get_num_threads()

    with ThreadPoolExecutor(2) as pool:
        results = [future.result() for future in [pool.submit(block, n) for n in (3, 5)]]
    assert results == [([3, 3], before), ([5, 5], before)]
    assert dl.get_num_threads() == before


def test_a_number_that_is_set_in_a_block_holds_there_and_after(undecided):
    with dl.num_threads(3):
        dl.set_num_threads(5)
        assert dl.get_num_threads() == 5
        with dl.num_threads(2):
            assert dl.get_num_threads() == 2
        assert dl.get_num_threads() == 5
    assert dl.get_num_threads() == 5


@pytest.mark.parametrize("n", [0, 1025])
def test_num_threads_names_itself(n):
    with pytest.raises(ValueError, match="num_threads: n must be between 1 and 1024"):
        dl.num_threads(n).__enter__()


# ---- threadpoolctl


def test_threadpoolctl_limits_dlcore(undecided):
    with threadpoolctl.threadpool_limits(1):
        assert dl.get_num_threads() == 1
    assert dl.get_num_threads() == undecided
    limits = threadpoolctl.threadpool_limits(limits=undecided + 2, user_api="openmp")
    try:
        assert dl.get_num_threads() == undecided + 2
    finally:
        limits.restore_original_limits()
    assert dl.get_num_threads() == undecided


def test_a_number_of_the_users_own_wins_over_openmp(undecided):
    with threadpoolctl.threadpool_limits(1), dl.num_threads(3):
        assert dl.get_num_threads() == 3


def test_threadpoolctl_lists_dlcore_and_limits_all_its_threads(undecided):
    threadpools.register(threadpoolctl)
    libraries = [lib for lib in threadpoolctl.threadpool_info() if lib["internal_api"] == "dlcore"]
    assert [lib["num_threads"] for lib in libraries] == [undecided]
    assert libraries[0]["version"] == dl.__version__
    with threadpoolctl.threadpool_limits(1), ThreadPoolExecutor(1) as pool:
        assert pool.submit(dl.get_num_threads).result() == 1
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(dl.get_num_threads).result() == undecided
    assert dispatch.core.process_num_threads() == 0


def test_the_limit_of_openmp_is_kept_and_said():
    code = """
import dlcore as dl, json
dl.set_num_threads(8)
config = dl.show_config("dicts")
print(json.dumps([dl.get_num_threads(), config["threads"]]))
dl.show_config()
"""
    first, *printed = run_python(code, OMP_THREAD_LIMIT="3").splitlines()
    assert json.loads(first) == [3, {"number": 3, "source": "OMP_THREAD_LIMIT", "limit": 3}]
    assert any("3 (OMP_THREAD_LIMIT" in line for line in printed)


@pytest.mark.parametrize(
    ("env", "code", "source"),
    [
        ({"DLCORE_NUM_THREADS": "5"}, "", "DLCORE_NUM_THREADS"),
        ({"OMP_NUM_THREADS": "5"}, "", "OMP_NUM_THREADS"),
        ({}, "dl.set_num_threads(5)", "set_num_threads"),
        (
            {},
            "block = dl.num_threads(5); block.__enter__()",
            "set_num_threads for this thread, by num_threads",
        ),
        (
            {},
            "import threadpoolctl; limits = threadpoolctl.threadpool_limits(5)",
            "omp_set_num_threads, as threadpoolctl calls it",
        ),
    ],
)
def test_where_the_number_comes_from_is_said(env, code, source):
    code = f"import dlcore as dl\n{code}\nt = dl.show_config('dicts')['threads']\n"
    clean = {"OMP_NUM_THREADS": "", "DLCORE_NUM_THREADS": ""}
    assert run_python(code + "print(t['number'], t['source'])", **clean | env) == f"5 {source}"


def test_the_configuration_can_be_written_as_json():
    config = dl.show_config(mode="dicts")
    assert json.loads(json.dumps(config)) == config
    assert config["instruction set"]["name"] == dl.isa()
    with pytest.raises(ValueError, match="mode must be 'stdout' or 'dicts', got 'yaml'"):
        dl.show_config("yaml")


# ---- forks, and pools of threads

COUNT = """
import os
import numpy as np
import dlcore as dl
def tasks():
    return len(os.listdir("/proc/self/task"))
x = np.linspace(-3, 3, 2_000_000, dtype=np.float32)
dl.set_num_threads({threads})
expected = np.maximum(x, 0)
"""


@linux
@pytest.mark.parametrize("used", [False, True])
def test_the_child_of_a_fork_uses_the_threads_that_it_says(used):
    """Servers load their application before they fork (xgboost#8040)."""
    code = (
        COUNT.format(threads=3)
        + f"""
if {used}:
    assert np.array_equal(dl.relu(x), expected)
read, write = os.pipe()
child = os.fork()
if child == 0:
    before = tasks()
    fine = all(np.array_equal(dl.relu(x), expected) for _ in range(20))
    os.write(write, f"{{fine}} {{tasks() - before}} {{dl.get_num_threads()}}".encode())
    os._exit(0)
assert np.array_equal(dl.relu(x), expected)
os.waitpid(child, 0)
print(os.read(read, 100).decode())
"""
    )
    assert run_python(code) == "True 2 3"


@linux
def test_many_callers_share_threads():
    """libgomp has a pool for each of them (threadpoolctl#208)."""
    code = (
        COUNT.format(threads=4)
        + """
import threading
barrier = threading.Barrier(25)
wrong = []
def answer():
    for _ in range(20):
        if not np.array_equal(dl.relu(x[:300_000]), expected[:300_000]):
            wrong.append(1)
    barrier.wait()
    barrier.wait()
before = tasks()
callers = [threading.Thread(target=answer) for _ in range(24)]
for t in callers: t.start()
barrier.wait()
print(tasks() - before - 24 <= 12, wrong)
barrier.wait()
for t in callers: t.join()
dl.relu(x)
"""
    )
    assert run_python(code) == "True []"
