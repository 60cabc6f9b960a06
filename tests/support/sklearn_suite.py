"""scikit-learn's own tests of its classes, with ours in their place."""

import importlib.util
import inspect
import re
from unittest import mock

import pytest

# scikit-learn's tests do not turn warnings into errors.
lenient = pytest.mark.filterwarnings("ignore")


def scikit_learns_tests(module, package, ours):
    """Return the tests in ``module`` of the classes that ``ours`` replaces, of ``package``."""
    found = importlib.util.find_spec(module)
    spec = importlib.util.spec_from_file_location(module.replace(".", "_"), found.origin)
    loaded = importlib.util.module_from_spec(spec)
    with mock.patch.multiple(package, **ours):
        spec.loader.exec_module(loaded)
    tests = {
        name: test
        for name, test in vars(loaded).items()
        if name.startswith("test_") and re.search("|".join(ours), inspect.getsource(test))
    }
    for test in tests.values():
        for mark in getattr(test, "pytestmark", []):
            if mark.name == "parametrize":  # pytest deprecates generators of parameters
                names, values = mark.args
                object.__setattr__(mark, "args", (names, list(values)))
        lenient(test)
    return tests
