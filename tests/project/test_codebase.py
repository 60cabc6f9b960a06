"""The habits of the code base: a kernel comes with its reference, case, stub and docstring."""

import ast
import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

import dlcore
from dlcore import reference
from dlcore._native import dispatch
from dlcore.functional import (
    _activations,
    _clipping,
    _column_stats,
    _linear,
    _losses,
    _normalization,
)
from dlcore.nn._layers import ACTIVATIONS
from dlcore.optim import _adam, _sgd
from dlcore.preprocessing import _scaling
from support.cases import CASES, DTYPES

PACKAGE = Path(dlcore.__file__).parent
ROOT = Path(__file__).parents[2]

# The modules with kernels.
MODULES = [
    _activations,
    _adam,
    _clipping,
    _column_stats,
    _linear,
    _losses,
    _normalization,
    _scaling,
    _sgd,
]

PUBLIC = {
    name: getattr(module, name)
    for module in MODULES
    for name in dlcore.__all__
    if getattr(getattr(dlcore, name), "__module__", "") == module.__name__
}


def parameters(function):
    """Kinds and defaults by name, less where results go and whose rows are meant."""
    own = inspect.signature(function).parameters.values()
    return {p.name: (p.kind, p.default) for p in own if p.name not in ("out", "comm")}


@pytest.mark.parametrize("name", PUBLIC)
def test_kernel_has_reference_case_and_docstring(name):
    assert name in reference.__all__, "its specification in dlcore.reference"
    assert inspect.getdoc(getattr(reference, name))
    assert inspect.getdoc(PUBLIC[name])
    assert name in {case.name for case in CASES} | {"ColumnStats"}, (
        "its case in tests/support/cases.py"
    )
    if inspect.isfunction(PUBLIC[name]):
        assert parameters(PUBLIC[name]) == parameters(getattr(reference, name))


@pytest.mark.parametrize("name", [n for n, f in PUBLIC.items() if inspect.isfunction(f)])
def test_docstring_names_every_parameter(name):
    doc = inspect.getdoc(PUBLIC[name])
    for parameter in inspect.signature(PUBLIC[name]).parameters:
        assert re.search(rf"\b{parameter}\b", doc), parameter


@pytest.mark.parametrize("module", MODULES)
def test_documented_errors_are_those_of_the_cases(module):
    documented = re.findall(r"^(\w+) +(\d+) +(\d+)$", module.__doc__, re.MULTILINE)
    bounds = {}
    for case in CASES:
        if case.name in module.__all__:
            ulp = [case.max_ulp(dtype) for dtype in DTYPES]
            bounds[case.name] = np.maximum(bounds.get(case.name, 0), ulp).tolist()
    assert {name: [float(a), float(b)] for name, a, b in documented} == bounds


def test_reference_has_nothing_else():
    assert set(reference.__all__) == set(PUBLIC)


def test_everything_public_has_a_docstring():
    assert dlcore.__all__ == sorted(set(dlcore.__all__), key=dlcore.__all__.index)
    for name in dlcore.__all__:
        item = getattr(dlcore, name)
        if callable(item):
            assert inspect.getdoc(item), name


def stubs():
    """Functions of _core.pyi and the names of their parameters."""
    tree = ast.parse((PACKAGE / "_native" / "_core.pyi").read_text())
    return {
        node.name: [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
    }


@pytest.mark.parametrize("level", dlcore.available_isas())
def test_stub_matches_the_extension(level):
    core = dispatch.load(level)
    functions = {n: f for n, f in vars(core).items() if inspect.isbuiltin(f) and n[0] != "_"}
    # The stub has no list of the activations: their names are those of the layers.
    names = [*ACTIVATIONS, "gelu_tanh"]
    activations = {*names, *(f"{name}_backward" for name in names)}
    stubbed = stubs()
    del stubbed["__getattr__"]
    assert set(functions) == set(stubbed) | activations
    for name, names in stubbed.items():
        if functions[name].__doc__ is None:  # by bindings/fast_call.hpp: arguments without names
            with pytest.raises(TypeError, match=f"takes {len(names)} arguments, got 0"):
                functions[name]()
            continue
        signature = functions[name].__doc__.splitlines()[0]
        assert re.findall(r"[(,] *\*{0,2}(\w+):", re.sub(r"\[.*?\]", "", signature)) == names, name


def test_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert dlcore.__version__ == project["version"]


def run(code):
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)


def test_import_needs_numpy_alone():
    run(
        "import sys, numpy\n"
        "before = set(sys.modules)\n"
        "import dlcore\n"
        "new = {m for m in set(sys.modules) - before if sys.modules[m].__spec__}\n"
        "new = {m.partition('.')[0] for m in new} - {'dlcore', 'numpy'}\n"
        "assert new <= set(sys.stdlib_module_names), new\n"
    )


def test_import_leaves_the_floating_point_control_word_alone():
    """With -ffast-math in any shared library, denormals would be flushed to 0 (GCC bug 55522)."""
    run(
        "import dlcore, numpy as np, threading\n"
        "def check():\n"
        "    dlcore.relu(np.ones(1_000_000, np.float32))\n"
        "    for dtype in (np.float32, np.float64):\n"
        "        tiny = np.full(9, np.finfo(dtype).tiny) / 2\n"
        "        assert (tiny > 0).all() and (tiny * 2 == np.finfo(dtype).tiny).all()\n"
        "        survived.append(dtype)\n"
        "survived = []\n"
        "check()\n"
        "worker = threading.Thread(target=check)\n"
        "worker.start()\n"
        "worker.join()\n"
        "assert len(survived) == 4\n"
    )
