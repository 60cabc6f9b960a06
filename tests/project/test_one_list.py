"""One list a family: what enumerates the activations and the losses is made from it, or held to it.

The list of the activations is `cpp/kernels/activations.inc`, which the extension module shows as
`core.activations()`: the options of each with their defaults, and its Lipschitz constant. That of the
elementwise losses is `losses.inc`, shown as `core.losses()`: the options, and the third input.
"""

import inspect
import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

import dlcore
from dlcore import functional, reference
from dlcore._native import dispatch
from dlcore.functional import _activations, _losses
from dlcore.nn._layers import ACTIVATIONS
from dlcore.nn._losses import LOSSES, KernelLoss
from support.cases import CASES

ROOT = Path(__file__).parents[2]
LISTED = dispatch.core.activations()
LISTED_LOSSES = dispatch.core.losses()
# GELU's approximation is a kernel of its own, and an option of the function.
NAMES = [name for name in LISTED if name != "gelu_tanh"]
CASED = {case.name for case in CASES}
LOSS_NAMES = [name for name in _losses.__all__ if not name.endswith("_and_grad")]


def options(function):
    """Return the options of a function, which follow its arrays, with their defaults."""
    return {
        p.name: p.default
        for p in inspect.signature(function).parameters.values()
        if p.default is not p.empty and p.name != "out"
    }


def numeric(options):
    """Leave out GELU's choice between two kernels."""
    return {name: value for name, value in options.items() if name != "approximate"}


def test_the_activations_of_python_are_those_of_the_list():
    elementwise = {
        name
        for name in _activations.__all__
        if not name.endswith("_backward") and "axis" not in options(getattr(functional, name))
    }
    assert set(NAMES) == set(ACTIVATIONS) == elementwise


@pytest.mark.parametrize("name", NAMES)
def test_an_activation_is_in_all_places(name):
    layer = ACTIVATIONS[name]
    assert getattr(dlcore, layer.__name__) is layer
    defaults = {field.name: field.default for field in fields(layer)}
    for library in (dlcore, reference):
        for function in (name, f"{name}_backward"):
            assert options(getattr(library, function)) == defaults
            assert function in CASED
    listed, lipschitz = LISTED[name]
    assert numeric(defaults) == listed
    x = np.linspace(-20, 20, 4001)
    slopes = getattr(reference, f"{name}_backward")(np.ones_like(x), x)
    assert 0.99 * lipschitz <= abs(slopes).max() + 0.01 <= lipschitz + 0.02


@pytest.mark.parametrize("name", NAMES)
def test_an_estimator_and_linear_take_every_activation(name):
    perceptrons = pytest.importorskip("dlcore.sklearn")
    x, y = np.random.default_rng(0).normal(size=(20, 3)), np.arange(20) % 2
    estimator = perceptrons.MLPClassifier((4,), activation=name, max_iter=1, random_state=0)
    with pytest.warns(UserWarning, match="Maximum iterations"):
        estimator.fit(x, y)
    weight = np.ones((2, 3))
    expected = getattr(dlcore, name)(dlcore.linear(x, weight))
    np.testing.assert_array_equal(dlcore.linear(x, weight, None, name), expected)


def sources_naming(word):
    """List the source files of the package and its kernels that name something."""
    files = [
        path
        for folder in (ROOT / "cpp", ROOT / "python")
        for path in folder.rglob("*")
        if path.suffix in (".cpp", ".hpp", ".inc", ".py", ".pyi") and "tests" not in path.parts
    ]
    pattern = re.compile(rf"\b{word}(_backward)?\b")
    return sorted(
        path.relative_to(ROOT).as_posix()
        for path in files
        if pattern.search(path.read_text(encoding="utf-8"))
    )


def test_a_new_activation_touches_six_source_files():
    """`silu` is named where a new one would have to be, and nowhere else.

    What has no export yet is an error of the exports, and of their tests.
    """
    assert sources_naming("silu") == [
        "cpp/kernels/activations.cpp",
        "cpp/kernels/activations.inc",
        "python/dlcore/export/_c_functions.py",
        "python/dlcore/functional/_activations.py",
        "python/dlcore/nn/_layers.py",
        "python/dlcore/reference/_activations.py",
    ]


@pytest.mark.parametrize("name", LOSS_NAMES)
def test_a_loss_is_in_all_places(name):
    for function in (name, f"{name}_and_grad"):
        assert options(getattr(dlcore, function)) == options(getattr(reference, function))
        assert function in CASED
    assert hasattr(dispatch.core, name)


@pytest.mark.parametrize("name", LISTED_LOSSES)
def test_a_listed_loss_has_its_options_and_a_class(name):
    numbers, third = LISTED_LOSSES[name]
    own = {
        n: v
        for n, v in options(getattr(dlcore, name)).items()
        if n not in ("reduction", "weight", third)
    }
    assert own == numbers
    assert name in LOSS_NAMES
    assert LOSSES[name].kernel == name
    assert LOSSES[name.removesuffix("_loss")] is LOSSES[name]


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_object_has_the_options_of_its_kernel(name):
    loss = LOSSES[name]()
    assert getattr(dlcore, type(loss).__name__) is type(loss)
    if isinstance(loss, KernelLoss):
        given = set(loss.options(np.dtype(np.float64)))
        assert given <= set(options(getattr(dlcore, loss.kernel)))
