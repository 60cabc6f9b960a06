"""Fixtures that every test may use."""

import pytest

import dlcore
from dlcore._native import dispatch


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
