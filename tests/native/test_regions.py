"""What is thrown in a parallel region comes out of it, and what `out` promises of memory."""

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

import dlcore as dl
from dlcore._native import dispatch

# The classes of each row lie a column apart, so that the kernel wants memory of its own for them:
# more than the 64 MB of addresses that glibc sets aside for each thread, which are beyond the limit.
NO_MEMORY = """
import resource
import numpy as np
import dlcore as dl
dl.set_num_threads({threads})
x = np.zeros((20_000_000, 2), np.float32).T
out = np.empty((2, 20_000_000), np.float32)
dl.gelu(np.zeros(2_000_000, np.float32))  # the threads are there
used = int(open("/proc/self/statm").read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (used + (4 << 20), -1))
try:
    dl.softmax(x, axis=-1, out=out)
    print("done")
except MemoryError:
    print("MemoryError")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited by RLIMIT_AS")
@pytest.mark.parametrize("threads", [1, 2])
def test_no_memory_in_a_region_is_a_memory_error(threads):
    run = subprocess.run(
        [sys.executable, "-c", NO_MEMORY.format(threads=threads)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout) == (0, "MemoryError\n"), run.stderr


@pytest.mark.parametrize("probabilities", [False, True])
def test_no_array_is_allocated_with_out(probabilities):
    n = 200_000
    x = np.zeros((n, 3), np.float32)
    target = x.copy() if probabilities else np.zeros(n, np.int64)
    out = np.empty_like(x)
    dl.cross_entropy_and_grad(x, target, out=out)
    tracemalloc.start()  # NumPy reports the memory of its arrays
    try:
        dl.cross_entropy_and_grad(x, target, out=out)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < n, f"{peak} bytes for {n} rows"


def test_the_lists_of_activations_and_losses_are_bound():
    module = dispatch.core
    for name, (options, lipschitz) in module.activations().items():
        assert hasattr(module, name)
        assert hasattr(module, f"{name}_backward")
        assert all(isinstance(value, float) for value in options.values())
        assert lipschitz >= 0.25
    for name in module.losses():
        assert hasattr(module, name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_slope_is_steeper_than_the_lipschitz_constant(dtype):
    module = dispatch.core
    x = np.linspace(-20, 20, 100_001).astype(dtype)
    for name, (options, lipschitz) in module.activations().items():
        dx = getattr(module, f"{name}_backward")(np.ones_like(x), x, *options.values(), None)
        assert np.abs(dx).max() <= lipschitz * (1 + 8 * np.finfo(dtype).eps), name
