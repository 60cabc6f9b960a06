"""Every kernel equals its reference, and itself in any memory layout and on any number of threads."""

import numpy as np
import pytest

import dlcore
from support.cases import CASES, DTYPES, sample
from support.layouts import LAYOUTS, broadcast

each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda t: t.__name__)
each_case = pytest.mark.parametrize("case", CASES, ids=str)
each_out = pytest.mark.parametrize("case", [case for case in CASES if case.takes_out], ids=str)


def same_bits(a, b):
    return all(
        x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()
        for x, y in zip(a, b, strict=True)
    )


@each_dtype
@each_case
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


def layout_shapes(case):
    """Return the small shapes and a large one."""
    *others, large = case.shapes
    return [shape for shape in others if np.prod(shape) < 50_000] + [large]


@each_dtype
@each_case
def test_layouts(case, dtype, isa):
    for shape in layout_shapes(case):
        inputs = case.inputs(shape, dtype)
        expected = case.run(inputs)
        for name, layout in LAYOUTS.items():
            got = case.run({key: layout(x) for key, x in inputs.items()})
            assert same_bits(got, expected), (name, shape)
        repeated = {key: broadcast(x) for key, x in inputs.items()}
        copied = {key: x.copy() for key, x in repeated.items()}
        assert same_bits(case.run(repeated), case.run(copied)), ("broadcast", shape)


@each_dtype
@each_out
def test_layouts_of_out(case, dtype, isa):
    for shape in layout_shapes(case):
        inputs = case.inputs(shape, dtype)
        expected = case.run(inputs)
        for name, layout in LAYOUTS.items():
            out = layout(np.zeros_like(expected[-1]))
            if not out.flags.writeable:
                continue
            getattr(dlcore, case.name)(**inputs, **case.options, out=out)
            assert same_bits([out], expected[-1:]), (name, shape)


@each_dtype
@each_case
def test_inputs_are_left_alone(case, dtype):
    for shape in case.shapes:
        inputs = case.inputs(shape, dtype)
        before = {key: x.copy() for key, x in inputs.items()}
        case.run(inputs)
        assert all(np.array_equal(before[k], inputs[k], equal_nan=True) for k in inputs), shape
