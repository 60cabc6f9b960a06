"""Largest errors of the mathematical functions that the kernels are made of."""

from functools import lru_cache

import numpy as np
import pytest

from dlcore import reference
from dlcore._native import dispatch
from dlcore.reference import _activations as activations
from support.ulp import ulp_distance

# The truth in a wider dtype, and the stated largest error in ULP for (float32, float64).
FUNCTIONS = {
    "exp": (np.exp, (2, 2)),
    "expm1": (np.expm1, (2, 3)),
    "log": (np.log, (2, 2)),
    "log1p": (np.log1p, (2, 2)),
    "sigmoid": (reference.sigmoid, (4, 4)),
    "tanh": (np.tanh, (4, 4)),
    "normal_cdf": (lambda x: activations._normal(x)[0], (6, 6)),
}
pytestmark = pytest.mark.parametrize("name", FUNCTIONS)


def truth(name, x, wide):
    with np.errstate(all="ignore"):
        return FUNCTIONS[name][0](x.astype(wide))


def largest_error(name, x, wide, expected=None):
    expected = truth(name, x, wide) if expected is None else expected
    error = ulp_distance(getattr(dispatch.core, name)(x, None), expected)
    worst = int(np.argmax(error))
    return error[worst], x[worst]


def specials(dtype):
    info = np.finfo(dtype)
    positive = [0, info.smallest_subnormal, info.tiny / 3, info.tiny, info.eps / 2, info.eps]
    positive += [0.5, 1, 1 + info.eps, 2, np.e, info.max, np.inf, np.nan]
    positive += [n * np.log(2) for n in (0.25, 0.5, 1, 1.5, 10.5)]
    positive += [np.log(info.max), -np.log(info.tiny), -np.log(info.smallest_subnormal)]
    x = np.array(positive, dtype)
    with np.errstate(over="ignore", under="ignore"):
        x = np.concatenate([x, np.nextafter(x, dtype(np.inf)), np.nextafter(x, dtype(-np.inf))])
    return np.concatenate([x, -x])


@lru_cache(maxsize=1)
def dense_sample(name):
    """Every 4099th float32, and the special ones."""
    x = np.arange(0, 2**32, 4099, dtype=np.uint64).astype(np.uint32).view(np.float32)
    x = np.concatenate([x, specials(np.float32)])
    return x, truth(name, x, np.float64)


def test_float32(name, isa):
    x, expected = dense_sample(name)
    error, where = largest_error(name, x, np.float64, expected)
    assert error <= FUNCTIONS[name][1][0], f"{error:.3f} ULP at {where!r}"


def random_sample(count):
    """Random float64 over the useful range, over all exponents, and close to 0 and 1."""
    rng = np.random.default_rng(0)
    exponents = rng.integers(0, 2**64, count, dtype=np.uint64).view(np.float64)
    wide, narrow = rng.uniform(-750, 750, count), rng.normal(size=count)
    around_1 = 1 + rng.normal(size=count) * 10.0 ** rng.uniform(-16, 0, count)
    return np.concatenate([exponents, wide, narrow, around_1, specials(np.float64)])


@pytest.mark.skipif(
    np.finfo(np.longdouble).eps == np.finfo(np.float64).eps, reason="nothing wider than float64"
)
def test_float64(name, isa):
    error, where = largest_error(name, random_sample(50_000), np.longdouble)
    assert error <= FUNCTIONS[name][1][1], f"{error:.3f} ULP at {where!r}"


@pytest.mark.slow
def test_every_float32(name, isa):
    block = 2**22
    worst = 0.0, np.float32(0)
    for start in range(0, 2**32, block):
        x = np.arange(start, start + block, dtype=np.uint64).astype(np.uint32).view(np.float32)
        worst = max(worst, largest_error(name, x, np.float64), key=lambda found: found[0])
    print(f"{name} at {isa}: {worst[0]:.3f} ULP at {worst[1]!r}")
    assert worst[0] <= FUNCTIONS[name][1][0]
