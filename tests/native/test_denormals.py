"""Subnormal numbers: who keeps them, and whose modes of the processor hold where."""

import ctypes
import mmap
import platform
import threading

import numpy as np
import pytest

import dlcore as dl
from dlcore._native import dispatch

pytestmark = pytest.mark.skipif(
    not dispatch.core.can_flush_denormals, reason="the instruction set has no such mode"
)
LARGE = 1_000_000


def tiny(dtype, n=LARGE):
    return np.full(n, np.finfo(dtype).tiny / 8, dtype)


def kept(x):
    return np.count_nonzero(dl.leaky_relu(x, 0.5))


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [7, LARGE])
def test_kernels_keep_them_unless_asked(dtype, threads, n):
    x = tiny(dtype, n)
    with dl.num_threads(threads):
        assert kept(x) == n
        with dl.flush_denormals():
            assert kept(x) == 0
            with dl.flush_denormals():
                pass
            assert kept(x) == 0
        assert kept(x) == n


@pytest.mark.parametrize("n", [7, 20_000])
def test_means_that_decay_end_at_0(n):
    """Rounded up for ever, they would slow each further step down."""
    optimizer = dl.SGD([np.zeros(n, np.float32)], momentum=0.9)
    optimizer.step([np.full(n, 1e-36, np.float32)])
    for _ in range(250):
        optimizer.step([np.zeros(n, np.float32)])
    assert not optimizer.state_dict()["state"][0]["momentum_buffer"].any()


def test_the_block_ends_with_an_exception():
    with pytest.raises(KeyError), dl.flush_denormals():
        raise KeyError
    assert kept(tiny(np.float32)) == LARGE


def test_nothing_else_is_flushed():
    x = tiny(np.float32)
    seen = []
    with dl.flush_denormals():
        kept(x)
        seen.append(np.count_nonzero(x * np.float32(0.5)))  # NumPy in this thread
        other = threading.Thread(target=lambda: seen.append(kept(x)))
        other.start()
        other.join()
    assert seen == [LARGE, LARGE]


def test_the_step_of_a_fit_leaves_other_threads_alone():
    x = tiny(np.float32)
    done = threading.Event()
    rows = np.random.default_rng(0).standard_normal((4000, 20), dtype=np.float32)
    model = dl.Sequential(dl.Linear(20, 64), dl.ReLU(), dl.Linear(64, 2), seed=0)
    trainer = dl.Trainer(model, loss="cross_entropy", optimizer=dl.SGD(model.parameters()), seed=0)

    def fit():
        trainer.fit(rows, np.zeros(4000, np.int64), epochs=30, batch_size=200, verbose=0)
        done.set()

    thread = threading.Thread(target=fit)
    with dl.num_threads(2):
        thread.start()
        counts = {kept(x)}
        while not done.is_set():
            counts.add(kept(x))
        thread.join()
        counts.add(kept(x))
    assert counts == {LARGE}


@pytest.mark.parametrize("rows", [1, 3, 500])
def test_prediction_takes_them_for_0(rows):
    """As a training step does, and as fast as with other numbers."""
    weight = np.full((2, 30), 2.0, np.float32)
    model = dl.Sequential(dl.Linear(30, 2, bias=False), seed=0)
    model.load_state_dict({"0.weight": weight})
    x = tiny(np.float32, rows * 30).reshape(rows, 30)
    assert np.count_nonzero(model(x)) == 0
    assert np.count_nonzero(dl.linear(x, weight)) == 0  # a layer as well
    assert kept(x) == x.size


# ---- another library's modes

CODE = {"set": b"\x0f\xae\x17\xc3", "get": b"\x0f\xae\x1f\xc3"}  # ldmxcsr [rdi]; stmxcsr [rdi]


@pytest.fixture
def control_word():
    """Return functions that read and write the control word of this thread; restores it."""
    if platform.machine() not in ("x86_64", "AMD64") or platform.system() == "Windows":
        pytest.skip("the code is that of x86-64 with the System V calling convention")
    functions, maps = {}, []
    for name, code in CODE.items():
        page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        page.write(code)
        maps.append(page)
        address = ctypes.addressof(ctypes.c_char.from_buffer(page))
        functions[name] = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(address)

    def read():
        word = ctypes.c_uint32()
        functions["get"](ctypes.byref(word))
        return word.value

    def write(value):
        functions["set"](ctypes.byref(ctypes.c_uint32(value)))

    before = read()
    yield read, write
    write(before)


FLUSHES = 0x8040


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_a_thread_that_flushes_does_so_on_all_its_threads(control_word, threads):
    """Whatever library switched them off, results do not depend on the number of threads."""
    read, write = control_word
    x = tiny(np.float32)
    before = read()
    with dl.num_threads(threads):
        kept(x)  # the threads are there before
        write(before | FLUSHES)
        assert kept(x) == 0
        write(before)
        assert kept(x) == LARGE


@pytest.mark.parametrize("threads", [1, 2])
def test_calls_leave_the_control_word_as_it_was(control_word, threads):
    read, _ = control_word
    before = read() & FLUSHES
    x = tiny(np.float32, 64 * 4000).reshape(-1, 64)
    model = dl.Sequential(dl.Linear(64, 8), seed=0)
    with dl.num_threads(threads), dl.flush_denormals():
        dl.gelu(x)
        model(x)
        model(x[:1])
        assert read() & FLUSHES == before
