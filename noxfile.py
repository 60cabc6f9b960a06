#!/usr/bin/env -S pipx run nox
# /// script
# dependencies = ["nox>=2025.10.14"]
# ///
"""One-word commands: ``nox -s tests``, ``lint``, ``bench``, ``docs``, ``build``."""

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
