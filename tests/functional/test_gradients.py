"""Every gradient is the derivative of its forward."""

import numpy as np
import pytest

from support.cases import CASES, widen

DIFFERENTIABLE = [case for case in CASES if case.potential is not None]
pytestmark = pytest.mark.parametrize("case", DIFFERENTIABLE, ids=str)


def some_inputs(case, dtype):
    """Draw inputs of at most 64 elements."""
    return case.inputs(max((s for s in case.shapes if np.prod(s) <= 64), key=np.prod), dtype)


def central_differences(f, x):
    """Gradient of the scalar function f at x."""
    gradient = np.empty_like(x)
    for i in np.ndindex(x.shape):
        h = np.zeros_like(x)
        h[i] = 6e-6 * (abs(x[i]) + 0.01)
        gradient[i] = (f(x + h) - f(x - h)) / ((x + h)[i] - (x - h)[i])
    return gradient


def test_float64_equals_central_differences(case, isa):
    inputs = some_inputs(case, np.float64)
    rest = {key: x for key, x in inputs.items() if key != case.wrt} | case.options
    x = case.undo(inputs[case.wrt])
    expected = central_differences(lambda x: case.potential(x, **rest), x)
    actual = case.run(inputs)[-1]
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-7)


def test_float32_equals_float64(case, isa):
    inputs = some_inputs(case, np.float32)
    narrow, wide = case.run(inputs), case.run(widen(inputs))
    assert case.error(narrow, inputs, wide) <= case.max_ulp(np.float32)
