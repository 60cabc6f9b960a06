"""Every kernel equals its reference, and itself in any memory layout and on any number of threads."""

import numpy as np
import pytest

import dlcore
from cases import CASES, DTYPES, sample
from layouts import LAYOUTS, broadcast

pytestmark = [
    pytest.mark.parametrize("dtype", DTYPES, ids=lambda t: t.__name__),
    pytest.mark.parametrize("case", CASES, ids=str),
]


def same_bits(a, b):
    return all(
        x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()
        for x, y in zip(a, b, strict=True)
    )


def test_error_and_threads(case, dtype, isa):
    for shape in case.shapes:
        inputs, truth = sample(case, shape, dtype)
        with dlcore.num_threads(1):
            serial = case.run(inputs)
        with dlcore.num_threads(2):
            threaded = case.run(inputs)
        assert same_bits(serial, threaded), shape
        assert [r.shape for r in serial] == [t.shape for t in truth], shape
        error = case.error(serial, inputs, truth)
        assert error <= case.max_ulp(dtype), f"{shape}: {error:.2f} ULP"


def test_layouts(case, dtype, isa):
    for shape in case.shapes:
        inputs, _ = sample(case, shape, dtype)
        expected = case.run(inputs)
        for name, layout in LAYOUTS.items():
            got = case.run({key: layout(x) for key, x in inputs.items()})
            assert same_bits(got, expected), (name, shape)
        repeated = {key: broadcast(x) for key, x in inputs.items()}
        copied = {key: x.copy() for key, x in repeated.items()}
        assert same_bits(case.run(repeated), case.run(copied)), ("broadcast", shape)


def test_inputs_are_left_alone(case, dtype):
    for shape in case.shapes:
        inputs, _ = sample(case, shape, dtype)
        before = {key: x.copy() for key, x in inputs.items()}
        case.run(inputs)
        assert all(np.array_equal(before[k], inputs[k], equal_nan=True) for k in inputs), shape
