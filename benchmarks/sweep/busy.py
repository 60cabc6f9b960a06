"""What kernels lose when another process takes one of the cores."""

import os
import re
import signal
import statistics
import subprocess
import sys
from time import sleep

from kernels import KERNELS
from timing import calls_of_a_batch, seconds

import dlcore

NAMES = ("relu", "gelu", "bce_with_logits", "cross_entropy x10", "Adam", "z-score transform x32")
SIZES = (10**5, 10**6, 10**7)
BATCH_SECONDS = 0.05  # several of the scheduler's slices


class Spinner:
    """A process that does nothing but take a core, from resume() to stop()."""

    def __init__(self):
        self._process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(self._process.pid, {max(os.sched_getaffinity(0))})
        self.stop()

    def stop(self):
        """Leave the core."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self):
        """Take the core."""
        self._process.send_signal(signal.SIGCONT)

    def close(self):
        """End the process."""
        self._process.kill()
        self._process.wait()


def measure(call, spinner, rounds):
    """Return the median time of a call for each (busy, threads)."""
    times = {(busy, threads): [] for busy in (False, True) for threads in (1, 2)}
    calls = calls_of_a_batch(call, BATCH_SECONDS)
    for _ in range(rounds):
        for (busy, threads), batches in times.items():
            (spinner.resume if busy else spinner.stop)()
            sleep(0.01)
            with dlcore.num_threads(threads):
                batches.append(seconds(call, calls))
    spinner.stop()
    return {key: statistics.median(batches) for key, batches in times.items()}


def show(rounds, wanted=""):
    """Print a table, of the kernels whose name has the pattern."""
    print("| kernel | elements | idle, 1 | idle, 2 | busy, 1 | busy, 2 | to idle, 2 | to idle, 1 |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    spinner = Spinner()
    try:
        for name in filter(re.compile(wanted).search, NAMES):
            for n in SIZES:
                call = KERNELS[name].calls(n, "float32")["out"]
                times = measure(call, spinner, rounds)
                cells = [f"{1e6 * time:.0f}" for time in times.values()]
                busy = times[True, 2]
                cells += [f"{busy / times[False, threads]:.2f}" for threads in (2, 1)]
                print(f"| {name} | {KERNELS[name].size(n)} | {' | '.join(cells)} |", flush=True)
    finally:
        spinner.close()
    print(
        "\nMicroseconds a call, float32, with 1 and 2 threads. The last columns: two threads beside"
    )
    print("a busy process, to two and to one without it.")
