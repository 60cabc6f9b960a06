"""Fits that are killed at random instants and started again, until they come to their end.

``python -m support.kills worker NAME FOLDER UNIT`` is such a fit.
"""

import os
import pickle
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import dlcore as dl
from dlcore._common.tree import read_tree
from support.resumable_fits import FITS, as_path, fit

# How often states are written: after each epoch, or within them.
UNITS = {"epochs": 1, "batches": 2, "minutes": 1e-5}


class Tells(dl.Callback):
    """Says when the first epoch begins."""

    def on_fit_begin(self):
        """Say so."""
        print("begins", flush=True)


def worker(name, folder, unit):
    """Fit, going on from where a process before was killed; leave what it has come to."""
    folder = Path(folder)
    checkpoint = dl.ModelCheckpoint(as_path(folder), every=UNITS[unit], unit=unit)
    loggers = [dl.CSVLogger(folder / "log.csv"), dl.JSONLogger(folder / "log.json")]
    outcome = fit(name, callbacks=[checkpoint, *loggers, Tells()], resume=True)
    (folder / "outcome").write_bytes(pickle.dumps(outcome))


class Campaign:
    """Kills fits, and looks at what they leave.

    Parameters
    ----------
    seed : int
        Draws the instants.
    say : callable
        Is told of each fit.
    """

    def __init__(self, seed, say=lambda _: None):
        self.kills = self.resumed = 0
        self._random, self._say = random.Random(seed), say
        self._wanted, self._longest = {}, {}

    def run(self, name, unit, folder, most):
        """Kill a fit up to so many times, and have it come to its end."""
        if name not in self._wanted:
            self._wanted[name] = fit(name)
        folder = Path(folder)
        killed = 0
        while not (folder / "outcome").exists():
            resumes = as_path(folder).exists()
            if self._start(name, unit, folder, killed < most):
                killed += 1
                self.resumed += resumes
            self._check_file(folder)
        self.kills += killed
        outcome = pickle.loads((folder / "outcome").read_bytes())
        for part, value in self._wanted[name].items():
            assert outcome[part] == value, (name, unit, part)
        epochs = range(len(outcome["history"]["loss"]))
        lines = (folder / "log.csv").read_text().splitlines()[1:]
        assert [line.split(",")[0] for line in lines] == list(map(str, epochs)), (name, unit)
        assert len((folder / "log.json").read_text().splitlines()) == len(epochs), (name, unit)
        self._say(f"{name}, {unit}: the same bits after {killed} kills")

    def _start(self, name, unit, folder, kills):
        """Start a fit; tell whether it was killed."""
        command = [sys.executable, "-m", "support.kills", "worker", name, str(folder), unit]
        place = Path(__file__).parents[1]
        with subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"begins\n", name
            begin = time.monotonic()
            if kills:
                time.sleep(self._random.uniform(0, self._longest.get((name, unit), 0.5)))
                os.kill(process.pid, signal.SIGKILL)
            process.wait()
            if process.returncode == 0:
                seconds = time.monotonic() - begin
                self._longest[name, unit] = max(seconds, self._longest.get((name, unit), 0))
                return False
            assert process.returncode == -signal.SIGKILL, (name, unit, process.returncode)
            return True

    @staticmethod
    def _check_file(folder):
        """Make sure that the file is whole, if there is one."""
        path = as_path(folder)
        assert not path.exists() or read_tree(path, "training")["model"]


if __name__ == "__main__":
    assert sys.argv[1] == "worker"
    assert sys.argv[2] in FITS
    worker(*sys.argv[2:])
