"""The process of one library: carries out commands, JSON lines on stdin, and replies on stdout."""

import importlib
import json
import os
import signal
import sys
import traceback
import warnings
from importlib.machinery import PathFinder
from pathlib import Path
from types import SimpleNamespace

from benchmarks.harness.timing import QUICKER, calibrate, timed


def import_peer(name, path):
    """Import a library's module; `path` is the folder of another dlcore than the installed one."""
    if path is not None:
        sys.path.insert(0, path)
        sys.meta_path.insert(0, PathFinder)  # before the finder of an editable installation
        found = Path(importlib.import_module("dlcore").__file__)
        if not found.is_relative_to(path):
            raise ImportError(f"{path} holds no package dlcore: {found} was imported")
    return importlib.import_module(f"benchmarks.peers.{name}")


class Worker:
    """The commands; each returns its reply."""

    def __init__(self, suite, peer, path, options):
        self.peer = import_peer(peer, path)
        self.suite = importlib.import_module(f"benchmarks.suites.{suite}").SUITE
        self.options = SimpleNamespace(**options)
        self.forget()

    def prepare(self, case):
        """Get ready to time the variants of a case; reply with what is known of it now."""
        self.prepared = self.suite.prepare(self.peer, case, self.options)
        if self.prepared is None:
            return {"variants": []}
        batch_seconds = self.prepared.batch_seconds / (QUICKER if self.options.quick else 1)
        for variant, call in self.prepared.calls.items():
            with self.prepared.around(variant):
                self.batches[variant] = calibrate(call, batch_seconds)[1] if batch_seconds else 1
        return {"variants": list(self.prepared.calls), "info": self.prepared.info}

    def turn(self, variants):
        """Time a batch of each variant; reply with seconds, and results that are numbers."""
        reply = {}
        for variant in variants:
            with self.prepared.around(variant):
                seconds, result = timed(self.prepared.calls[variant], self.batches[variant])
            reply[variant] = {
                "seconds": seconds,
                "result": float(result) if self.prepared.is_number else None,
            }
        return reply

    def once(self, variants):
        """Make a call of each variant that takes its time with it, and is not to be repeated."""
        return {variant: self.prepared.calls[variant]() for variant in variants}

    def check(self):
        """Reply with what is found out after the times: of results, errors."""
        return {} if self.prepared.check is None else self.prepared.check()

    def forget(self):
        """Drop the case and its memory."""
        self.prepared, self.batches = None, {}
        return {}


def serve():
    """Reply to one command after the other, until there are no more."""
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no reply
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver's to handle
    warnings.simplefilter("ignore")  # of convergence, for one: nothing is to converge here

    def reply(message):
        print(json.dumps(message), file=replies)

    setup = json.loads(sys.stdin.readline())
    if hasattr(os, "sched_setaffinity"):  # not all libraries can be told by a variable
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: setup["options"]["threads"]])
    try:
        worker = Worker(**setup)
    except ImportError as error:
        return reply({"failed": str(error)})
    reply({"version": worker.peer.library.__version__})
    for line in sys.stdin:
        command, *arguments = json.loads(line)
        try:
            reply(getattr(worker, command)(*arguments))
        except Exception as error:  # noqa: BLE001 - whatever a library may raise
            traceback.print_exc()
            worker.forget()
            reply({"failed": f"{type(error).__name__}: {error}"})
    return None


if __name__ == "__main__":
    serve()
