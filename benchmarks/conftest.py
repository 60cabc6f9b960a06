"""Benchmarks are timed when they alone are asked for; in an ordinary test run each runs once."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def alone(config):
    """Return whether benchmarks and nothing else were asked for."""
    asked = [Path(argument.partition("::")[0]).resolve() for argument in config.args]
    return all(path.is_relative_to(HERE) for path in asked)


def pytest_configure(config):
    if not alone(config):
        config.option.benchmark_disable = True


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_auto_num_workers(config):
    """No worker beside the one that measures."""
    return 0 if alone(config) else None
