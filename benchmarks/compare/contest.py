"""Processes that take turns."""

import json
import os
import signal
import statistics
import subprocess
import sys
from pathlib import Path
from time import sleep

WORKER = Path(__file__).with_name("worker.py")
PAUSE = 0.01  # seconds between turns


class Failure(RuntimeError):
    """A library is not there, or fails at a case."""


class Contestant:
    """A library in a process of its own, which is held still while others have their turn.

    Threads of some libraries go on asking for work after a call, on a core that the next one needs:
    with NumPy's OpenBLAS in the round, all others seemed to take up to 1.5 times as long.
    """

    def __init__(self, name, dtype, threads):
        self.name = name
        variables = dict.fromkeys(
            ("DLCORE_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"),
            str(threads),
        )
        variables |= {
            "JAX_PLATFORMS": "cpu",
            "JAX_ENABLE_X64": str(int(dtype == "float64")),
            "TORCHINDUCTOR_COMPILE_THREADS": "1",  # no processes beside the one measured
        }
        self._process = subprocess.Popen(
            [sys.executable, WORKER, name, dtype, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env=os.environ | variables,
        )

    def greeting(self):
        """Wait until the library is imported; return its version."""
        return self._reply()["version"]

    def ask(self, command, *arguments):
        """Have a command carried out."""
        self._process.send_signal(signal.SIGCONT)
        try:
            print(json.dumps([command, *arguments]), file=self._process.stdin)
        except BrokenPipeError as error:
            raise Failure("its process has ended") from error
        return self._reply()

    def close(self):
        """Let the process end."""
        self._process.send_signal(signal.SIGCONT)
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _reply(self):
        line = self._process.stdout.readline()
        if not line:
            raise Failure(f"its process has ended with {self._process.wait()}")
        self._process.send_signal(signal.SIGSTOP)
        reply = json.loads(line)
        if "failed" in reply:
            raise Failure(reply["failed"])
        return reply


def measure(case, dtype, contestants, rounds, note):
    """Time a case with all who know it, in interleaved rounds, and return the row of the table."""
    ways = {}
    for contestant in contestants:
        if contestant.name != "stream" or case.large:
            try:
                ways[contestant] = contestant.ask("prepare", case.name)["way"]
            except Failure as failure:
                if contestant.name == "dlcore":
                    raise
                note(f"{contestant.name} is left out of {case.name}: {failure}")
    ways = {contestant: way for contestant, way in ways.items() if way is not None}
    turns = list(ways)
    times = {contestant.name: [] for contestant in turns}
    for _ in range(rounds):
        for contestant in turns:
            sleep(PAUSE)
            times[contestant.name].append(contestant.ask("time")["seconds"])
        turns.append(turns.pop(0))
    ulp = {c.name: c.ask("error")["ulp"] for c in ways if c.name != "stream"}
    for contestant in ways:
        contestant.ask("forget")

    medians = {name: statistics.median(batches) for name, batches in times.items()}
    stream = medians.pop("stream", None)
    ours = medians["dlcore"]
    peer = min(medians.keys() - {"dlcore"}, key=medians.get, default=None)
    must, aim = (case.must, case.aim) if dtype == "float32" else (None, None)
    return {
        "case": case.name,
        "kernel": case.kernel.name,
        "shape": case.shape,
        "seconds": medians,
        "rounds": times,
        "ways": {contestant.name: way for contestant, way in ways.items()},
        "ulp": ulp,
        "best_peer": peer,
        "ratio": medians[peer] / ours if peer else None,
        "must": must,
        "aim": aim,
        "bytes_per_second": case.bytes(dtype) / ours,
        "stream": case.kernel.stream,
        "stream_bytes_per_second": stream and case.bytes(dtype) / stream,
        "share_of_stream": stream and stream / ours,
    }
