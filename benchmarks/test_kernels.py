"""Time every kernel: a group for each kernel and size, a row for each implementation.

pytest benchmarks/
pytest benchmarks/ -k cross_entropy --benchmark-columns=median,iqr,rounds
"""

import numpy as np
import pytest

import dlcore
from dlcore import reference
from dlcore._native import dispatch
from support.cases import CASES, results, sample

IMPLEMENTATIONS = ["numpy"]
IMPLEMENTATIONS += [f"{isa}, {n} threads" for isa in dlcore.available_isas() for n in (1, 2)]
GROUPS = [
    pytest.param(case, shape, id=f"{case.name}-{'x'.join(map(str, shape))}")
    for case in CASES
    for shape in case.benchmarks
]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(("case", "shape"), GROUPS)
def test_kernel(case, shape, implementation, benchmark, monkeypatch, request):
    benchmark.group = request.node.callspec.id.removesuffix(f"-{implementation}")
    inputs, truth = sample(case, shape, np.float32)
    if implementation == "numpy":
        run(benchmark, case, inputs, truth, reference, max_ulp=10_000)
        return
    isa, threads = implementation.removesuffix(" threads").split(", ")
    monkeypatch.setattr(dispatch, "core", dispatch.load(isa))
    with dlcore.num_threads(int(threads)):
        run(benchmark, case, inputs, truth, dlcore, case.max_ulp(np.float32))


def run(benchmark, case, inputs, truth, library, max_ulp):
    kernel = case.bound(inputs, library)
    assert case.error(results(kernel()), inputs, truth) <= max_ulp
    timed = results(benchmark(kernel))
    if case.kind != "optimizer":  # which has gone on by many steps
        assert case.error(timed, inputs, truth) <= max_ulp
