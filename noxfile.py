#!/usr/bin/env -S pipx run nox
# /// script
# dependencies = ["nox>=2025.10.14"]
# ///
"""One-word commands, such as ``nox -s tests``; ``nox -l`` lists them."""

from pathlib import Path

import nox

nox.needs_version = ">=2025.10.14"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_venv = "yes"


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests; arguments after ``--`` go to pytest."""
    session.install(".[test]")
    session.run("pytest", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check the style and the types of the sources."""
    session.install(".[dev]")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("clang-format", "--dry-run", "--Werror", *map(str, Path("cpp").rglob("*.[ch]pp")))
    session.run("mypy")


@nox.session(default=False)
def asan(session: nox.Session) -> None:
    """Run tests under AddressSanitizer and UndefinedBehaviorSanitizer."""
    sanitize(session, "asan")


@nox.session(default=False)
def tsan(session: nox.Session) -> None:
    """Run tests of threads under ThreadSanitizer."""
    sanitize(session, "tsan")


def sanitize(session: nox.Session, name: str) -> None:
    """Build with a sanitizer and test; arguments after ``--`` go to pytest."""
    session.install("cmake>=3.24", "ninja", "pybind11>=3.0", ".[test]")
    session.run("python", "tests/sanitize.py", name, *session.posargs)


@nox.session(default=False)
def emulated(session: nox.Session) -> None:
    """Build for the machine named after ``--`` and test under QEMU; the rest goes to pytest."""
    session.install("cmake>=4.1", "ninja", "pip", "pybind11>=3.0")
    session.run("python", "tests/emulated.py", *session.posargs)


@nox.session(default=False)
def planted(session: nox.Session) -> None:
    """Plant bugs in a copy of the kernels, which tests have to catch; names after ``--`` choose."""
    session.install("cmake>=3.24", "ninja", "pybind11>=3.0", ".[test]")
    session.run("python", "tests/plant_bugs.py", *session.posargs)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Time every kernel beside its NumPy reference."""
    session.install(".[bench]")
    session.run("pytest", "benchmarks", *session.posargs)


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """Build the site, and run the examples in the README and the docstrings."""
    session.install(".[test,docs]")
    session.run("pytest", "--doctest-modules", "--pyargs", "dlcore", "tests/project/test_readme.py")
    session.run("python", "-m", "sphinx", "-W", "--keep-going", "docs", "docs/_build/html")


@nox.session(default=False)
def build(session: nox.Session) -> None:
    """Build the sdist and, from it, the wheel into ``dist/``."""
    session.install("build", "check-wheel-contents")
    session.run("python", "-m", "build")
    session.run("check-wheel-contents", "dist")


if __name__ == "__main__":
    nox.main()
