"""Every kernel equals its reference, and itself in any memory layout and on any number of threads."""

from itertools import product

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


@each_dtype
@each_case
def test_error_of_other_draws(case, dtype, isa):
    shapes = [shape for shape in case.shapes if np.prod(shape) < 4000][1::2]
    for shape, seed in product(shapes, range(1, 6)):
        inputs = case.inputs(shape, dtype, seed)
        error = case.error(case.run(inputs), inputs)
        assert error <= case.max_ulp(dtype), f"{shape}, seed {seed}: {error:.2f} ULP"


@each_dtype
@pytest.mark.parametrize("case", [c for c in CASES if c.kind == "activation"], ids=str)
def test_error_over_the_whole_range(case, dtype, isa):
    """Of numbers of every size, times gradients of every size and all digits."""
    rng, size = np.random.default_rng(3), 200_000
    tiny, most = np.log10([np.finfo(dtype).smallest_normal, 1e3]) * (0.9, 1)
    exponents = np.where(
        rng.random(size) < 0.2, rng.uniform(tiny, most, size), rng.uniform(-3, 2, size)
    )
    inputs = {"x": (rng.choice([-1, 1], size) * 10**exponents).astype(dtype)}
    if "dy" in case.inputs((1,), dtype):
        inputs = {
            "dy": (rng.uniform(1, 2, size) * 2.0 ** rng.integers(-30, 31, size)).astype(dtype)
        } | inputs
    error = case.error(case.run(inputs), inputs)
    assert error <= case.max_ulp(dtype), f"{error:.2f} ULP"


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
