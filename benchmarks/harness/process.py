"""Libraries, each in a process of its own, which take turns."""

import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager

from benchmarks import ROOT

THREADS = ("DLCORE_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
AGAINST = "against"  # the name of another build of dlcore


class Failure(RuntimeError):
    """A library is not there, or fails at a case."""


class Process:
    """A library in a process of its own, which is held still while others have their turn.

    Threads of some libraries go on asking for work after a call, on a core that the next one needs:
    with NumPy's OpenBLAS in the round, all others seemed to take up to 1.5 times as long.
    """

    def __init__(self, name, suite, options):
        self.name = name
        variables = dict.fromkeys(THREADS, str(options.threads)) | {
            "JAX_PLATFORMS": "cpu",
            "JAX_ENABLE_X64": str(int(getattr(options, "dtype", None) == "float64")),
            "TORCHINDUCTOR_COMPILE_THREADS": "1",  # no processes beside the one measured
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.harness.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            cwd=ROOT,
            env=os.environ | variables,
        )
        self._send(
            {
                "suite": suite,
                "peer": "dlcore" if name == AGAINST else name,
                "path": str(options.against.resolve()) if name == AGAINST else None,
                "options": vars(options),
            }
        )

    def greeting(self):
        """Wait until the library is imported; return its version."""
        return self._reply()["version"]

    def ask(self, command, *arguments):
        """Have a command carried out."""
        self._process.send_signal(signal.SIGCONT)
        self._send([command, *arguments])
        return self._reply()

    def close(self):
        """Let the process end."""
        self._process.send_signal(signal.SIGCONT)
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _send(self, message):
        try:
            print(json.dumps(message, default=str), file=self._process.stdin)
        except BrokenPipeError as error:
            raise Failure("its process has ended") from error

    def _reply(self):
        line = self._process.stdout.readline()
        if not line:
            raise Failure(f"its process has ended with {self._process.wait()}")
        self._process.send_signal(signal.SIGSTOP)
        reply = json.loads(line)
        if "failed" in reply:
            raise Failure(reply["failed"])
        return reply


@contextmanager
def processes(names, suite, options, note):
    """Start the libraries that are installed; yield their processes, and the versions by name."""
    started, versions = [], {}
    with ExitStack() as stack:
        for name in names:
            process = Process(name, suite, options)
            stack.callback(process.close)
            try:
                versions[name] = process.greeting()
                started.append(process)
            except Failure as failure:
                if name in ("dlcore", AGAINST):
                    raise
                note(f"{name} is left out: {failure}")
        yield started, versions


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
