"""scikit-learn's own tests of its classes, with ours in their place."""

import importlib.util
import inspect
import re
from unittest import mock

import pytest
import sklearn
from packaging.version import Version
from sklearn.utils import estimator_checks

# From here on its perceptrons that stop early take text for classes, and it refuses weights of 0 alone.
SINCE_1_9 = Version(sklearn.__version__) >= Version("1.9")

# scikit-learn's tests do not turn warnings into errors.
lenient = pytest.mark.filterwarnings("ignore")


def parametrize_with_checks(estimators, expected_failed_checks=None):
    """Return scikit-learn's mark of this name, with a list: pytest deprecates generators."""
    mark = estimator_checks.parametrize_with_checks(
        estimators, expected_failed_checks=expected_failed_checks
    )
    names, checks = mark.args
    return pytest.mark.parametrize(names, list(checks), **mark.kwargs)


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
