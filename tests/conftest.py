"""Fixtures that every test may use, and how tests run side by side."""

import os
import signal

# A shell that starts the tests in the background has them ignore Ctrl-C, which some of them press.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Several processes test at once, so the threads of one must not spin on the cores of another, nor
# those of NumPy's BLAS, of which the references need no more than one. Both libraries read their
# variable when they are loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "0")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from pathlib import Path

import pytest

import dlcore
from dlcore._native import dispatch, threads

try:
    import hypothesis
except ImportError:  # which not all tests need
    pass
else:
    hypothesis.settings.register_profile(
        "dlcore", deadline=None, derandomize=True, max_examples=60, database=None
    )
    hypothesis.settings.load_profile("dlcore")


def pytest_xdist_auto_num_workers(config):
    """One worker a core; where single files are asked for, none: starting them takes longer."""
    paths = [Path(argument.partition("::")[0]) for argument in config.args]
    return 0 if all(path.is_file() for path in paths) else threads.default_num_threads()[0]


@pytest.hookimpl(trylast=True)  # innermost: what a test draws serves every instruction set
def pytest_generate_tests(metafunc):
    marks = metafunc.definition.iter_markers("parametrize")
    if "isa" in metafunc.fixturenames and all(mark.args[0] != "isa" for mark in marks):
        metafunc.parametrize("isa", dlcore.available_isas(), indirect=True)


@pytest.fixture
def isa(request, monkeypatch):
    """Run the kernels of each instruction set that this machine has."""
    monkeypatch.setattr(dispatch, "core", dispatch.load(request.param))
    return request.param
