"""Code that runs in a process of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def run_python(code, **env):
    """Run code, with these variables in its environment as well; return what it prints."""
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **env},
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def run_program(*command, timeout=300, **env):
    """Run a program, with these variables in its environment as well; return what it prints."""
    run = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, **env},
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout.strip()


def mpiexec():
    """Return the program that starts ranks: that of this environment, or the machine's own."""
    pytest.importorskip("mpi4py", reason="there is no MPI: pip install '.[mpi]'")
    places = str(Path(sys.executable).parent), os.environ["PATH"]
    found = shutil.which("mpiexec", path=os.pathsep.join(places))
    assert found, "mpi4py is there, but no mpiexec"
    return found


def run_ranks(size, *arguments, **options):
    """Run Python with these arguments on so many ranks; return what they print."""
    return run_program(mpiexec(), "-n", size, sys.executable, *arguments, **options)
