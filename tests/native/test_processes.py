"""A process ends as it should: at exit, by Ctrl-C, without memory, without threads."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import dlcore as dl


def run_python(code, timeout=60, **env):
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, **env},
    )


DAEMON = """
import threading, time
import numpy as np
import dlcore as dl
dl.set_num_threads({threads})
x = np.random.default_rng(0).standard_normal((200_000, 10), np.float32)
y = np.zeros(len(x), np.int64)
model = dl.Sequential(dl.Linear(10, 64), dl.ReLU(), dl.Linear(64, 2), seed=0)
odd = x[::2, ::-1]
out = np.empty_like(x)

class Exported:  # read by Python code, which the interpreter may end in the middle
    def __array__(self, dtype=None, copy=None):
        return x

def fit():
    optimizer = dl.SGD(model.parameters(), lr=1e-6)
    trainer = dl.Trainer(model, loss="cross_entropy", optimizer=optimizer, seed=0)
    trainer.fit(x[:20_000], y[:20_000], epochs=1000, batch_size={batch}, verbose=0)

def serve():
    while True:
        {call}
for _ in range(2):
    threading.Thread(target=serve, daemon=True).start()
time.sleep(0.25)
"""


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("call", "batch"),
    [
        ("dl.gelu(x)", 0),
        ("dl.relu(Exported(), out=out)", 0),
        ("dl.cross_entropy_and_grad(x, y)", 0),
        ("dl.column_stats(odd)", 0),
        ("dl.linear(odd, odd[:5])", 0),
        ("model(x)", 0),
        ("model(x[:1])", 0),
        ("fit()", 32),
        ("fit()", 20_000),
    ],
)
def test_a_daemon_thread_does_not_abort_the_exit(threads, call, batch):
    """The interpreter ends such a thread where it asks for the GIL (pybind11#2215)."""
    code = DAEMON.format(threads=threads, call=call, batch=batch)
    run = run_python(code)
    assert run.returncode == 0, run.stderr[-500:]


# ---- Ctrl-C


def pressed_after(seconds, call):
    """Press Ctrl-C while `call` runs; return how long it took to end."""
    times = []

    def press():
        times.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(seconds, press)
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            call()
        return time.perf_counter() - times[0]
    finally:
        timer.cancel()
        timer.join()
        signal.signal(signal.SIGINT, before)


def wide_network():
    return dl.Sequential(
        dl.Linear(784, 1024),
        dl.ReLU(),
        dl.Linear(1024, 1024),
        dl.ReLU(),
        dl.Linear(1024, 10),
        seed=0,
    )


class OwnLoss(dl.CrossEntropyLoss):
    """A loss that is called between the passes."""

    def value_and_grad(self, *arguments, **options):
        return super().value_and_grad(*arguments, **options)


@pytest.mark.parametrize("loss", [dl.CrossEntropyLoss(), OwnLoss()], ids=["native", "own"])
def test_ctrl_c_in_the_middle_of_a_long_batch(loss):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((60_000, 784), dtype=np.float32), rng.integers(0, 10, 60_000)
    model = wide_network()
    optimizer = dl.Adam(model.parameters())
    trainer = dl.Trainer(model, loss=loss, optimizer=optimizer, seed=0)
    before = model.flat.copy()
    waited = pressed_after(0.7, lambda: trainer.fit(x, y, epochs=9, batch_size=60_000, verbose=0))
    assert waited < 1.5  # 0.1 s where nothing else runs
    assert np.array_equal(model.flat, before)  # the first batch was not completed
    history = trainer.fit(x[:500], y[:500], epochs=1, batch_size=100, verbose=0)
    assert np.isfinite(history["loss"]).all()


def test_ctrl_c_in_a_long_prediction():
    x = np.zeros((200_000, 784), np.float32)
    model = wide_network()
    assert pressed_after(0.5, lambda: model(x)) < 1.5
    assert model(x[:2]).shape == (2, 10)


def test_ctrl_c_beside_a_slow_transform():
    model = dl.Sequential(dl.Linear(5, 2), seed=0)
    trainer = dl.Trainer(model, loss="cross_entropy", optimizer=dl.Adam(model.parameters()), seed=0)

    def slow(x, rng):
        time.sleep(3)
        return x

    fit = lambda: trainer.fit(
        np.zeros((64, 5), np.float32),
        np.zeros(64, np.int64),
        epochs=1,
        transform=slow,
        verbose=0,
    )
    assert pressed_after(0.3, fit) < 1.5


# ---- what a system may refuse

FEW_THREADS = """
import os, resource
import numpy as np
import dlcore as dl
x = np.linspace(-3, 3, 3_000_000, dtype=np.float32)
y = np.zeros(10_000, np.int64)
model = dl.Sequential(dl.Linear(300, 300), dl.ReLU(), dl.Linear(300, 3), seed=0)
trainer = dl.Trainer(model, loss="cross_entropy", optimizer=dl.Adam(model.parameters()), seed=0)
dl.set_num_threads(4)
if os.getuid() == 0:  # no limit holds for root
    os.setgid(65534)
    os.setuid(65534)
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
assert np.array_equal(dl.relu(x), np.maximum(x, 0))
rows = x.reshape(-1, 300)
model(rows)
trainer.fit(rows, y, epochs=1, batch_size=500, verbose=0)
trainer.fit(rows, y, epochs=1, batch_size=500, transform=lambda x, rng: x, verbose=0)
print("alive")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="threads are limited by RLIMIT_NPROC")
def test_fewer_threads_where_no_more_can_be_started():
    """libgomp would end the process (RandLA-Net#206)."""
    run = run_python(FEW_THREADS, HOME="/")
    assert (run.returncode, run.stdout) == (0, "alive\n"), run.stderr[-500:]


def test_without_standard_output():
    """As in a program with windows alone (pyinstaller#7731)."""
    code = """
import sys
import numpy as np
import dlcore as dl
x, y = np.ones((300, 5), np.float32), np.zeros(300, np.int64)
sys.stdout = sys.stderr = None
for verbose in ("auto", 0, 1, 2):
    model = dl.Sequential(dl.Linear(5, 2), seed=0)
    optimizer = dl.Adam(model.parameters())
    trainer = dl.Trainer(model, loss="cross_entropy", optimizer=optimizer, seed=0)
    trainer.fit(x, y, epochs=2, validation_split=0.2, verbose=verbose, log_every=3)
dl.show_config()
"""
    assert run_python(code).returncode == 0


def test_standard_output_that_is_no_file(monkeypatch):
    """As a service may replace it."""

    class Lines:
        def write(self, text):
            lines.append(text)

        def flush(self):
            pass

    lines = []
    monkeypatch.setattr(sys, "stdout", Lines())
    model = dl.Sequential(dl.Linear(5, 2), seed=0)
    trainer = dl.Trainer(model, loss="cross_entropy", optimizer=dl.SGD(model.parameters()), seed=0)
    trainer.fit(np.ones((30, 5), np.float32), np.zeros(30, np.int64), epochs=2)
    assert "epoch 2/2" in "".join(lines)
