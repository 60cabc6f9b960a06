"""Benchmarks are timed when they are asked for; in an ordinary test run each runs once."""

from pathlib import Path

HERE = Path(__file__).parent


def pytest_configure(config):
    asked = [Path(argument.partition("::")[0]).resolve() for argument in config.args]
    if not all(path.is_relative_to(HERE) for path in asked):
        config.option.benchmark_disable = True
