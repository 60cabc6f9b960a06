"""A layer that compiled code cannot compute is refused, under each name that the class has."""

import importlib

import pytest

import dlcore as dl


@pytest.mark.parametrize("module", ["dlcore", "dlcore.layers", "dlcore.nn"])
def test_a_layer_of_the_users_own_is_never_skipped(module):
    """tensorflow#29492."""
    base = importlib.import_module(module).Layer
    assert base is dl.Layer

    class Double(base):
        def __call__(self, x):
            return 2 * x

    with pytest.raises(TypeError, match="Double is no layer that it can compute"):
        dl.Sequential(dl.Linear(3, 2), Double())


def test_a_built_in_layer_that_computes_something_else():
    class Double(dl.ReLU):
        def forward(self, x):
            return 2 * x

    with pytest.raises(TypeError, match=r"Double\.forward would never be called"):
        dl.Sequential(dl.Linear(3, 2), Double())
