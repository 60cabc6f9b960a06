"""Fixtures that every test may use."""

import pytest

import dlcore
from dlcore import _isa


@pytest.fixture(params=dlcore.available_isas())
def isa(request, monkeypatch):
    """Run the kernels of each instruction set that this machine has."""
    monkeypatch.setattr(_isa, "core", _isa.load(request.param))
    return request.param
