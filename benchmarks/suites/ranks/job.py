"""Ranks that one process has started and gives commands to."""

import os
import shutil
import subprocess
import sys
import tempfile
import weakref
from contextlib import ExitStack
from pathlib import Path

from benchmarks import ROOT
from benchmarks.harness.process import THREADS

# That of the environment that Python runs in, or else of the machine.
MPIEXEC = shutil.which(
    "mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
)


class Job:
    """The ranks of a way to train a network.

    A rank that waits for a message keeps its core busy, which another job needs meanwhile. So each
    waits for its commands at a pipe of its own, not for those of rank 0.
    """

    def __init__(self, case, way, ranks, peer):
        program = [sys.executable, "-m", "benchmarks.suites.ranks.rank"]
        package = Path(peer.library.__file__).parents[1]
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            pipes = [folder / str(rank) for rank in range(ranks)]
            for pipe in pipes:
                os.mkfifo(pipe)
            self._process = stack.enter_context(
                subprocess.Popen(
                    [MPIEXEC, "-n", str(ranks), *program, str(folder), str(package), case, way],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    text=True,
                    cwd=ROOT,
                    env=os.environ | dict.fromkeys(THREADS, "1"),
                )
            )
            # Open for reading as well, which does not wait for a rank that may never come so far.
            self._pipes = [
                stack.enter_context(open(os.open(pipe, os.O_RDWR), "wb", 0)) for pipe in pipes
            ]
            self._reply()  # once they are ready, so that they leave the cores to others
            weakref.finalize(self, stack.pop_all().close)

    def fit(self):
        """Train some epochs; return the seconds that they take, and the mean loss of the last."""
        for pipe in self._pipes:
            pipe.write(b"fit\n")
        seconds, loss = map(float, self._reply().split())
        return {"seconds": seconds, "result": loss}

    def _reply(self):
        reply = self._process.stdout.readline()
        if not reply:
            raise RuntimeError(f"the ranks have ended with {self._process.wait()}")
        return reply
