"""The callers that the page on deployment shows: they compile, and print what dlcore predicts."""

import re
from pathlib import Path

import numpy as np
import pytest

import run_pages
from support.c_compiler import STRICT, compiled, compiler, run

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "deploy.md"
pytest.importorskip("dlcore.sklearn", exc_type=ImportError)
pytest.importorskip("onnxruntime")
pytest.importorskip("skl2onnx")


def blocks(language):
    return re.findall(
        rf"^```{language}\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Run the page; return the folder of its headers, and the probabilities of its example."""
    folder = tmp_path_factory.mktemp("deploy")
    names = run_pages.run(PAGE, folder).names
    row = np.array([[5.1, 3.5, 1.4, 0.2]], np.float32)
    return folder, names["pipeline"].predict_proba(row)[0]


def library(folder):
    return compiled((folder / "iris.h").read_text(), "iris", folder)


def test_c(page):
    folder, p = page
    program, function = blocks("c")
    (folder / "main.c").write_text(program)
    run(compiler("gcc"), *STRICT, "-O2", folder / "main.c", "-o", folder / "main")
    assert run(folder / "main") == f"setosa {p[0]:.3f}\n"
    (folder / "kind.c").write_text(function)
    run(compiler("gcc"), *STRICT, "-O2", "-c", folder / "kind.c", "-o", folder / "kind.o")


def test_fortran(page):
    folder, p = page
    (program,) = blocks("fortran")
    (folder / "caller.f90").write_text(program)
    flags = ("-std=f2008", "-pedantic", "-Wall", "-Wextra", "-Werror", "-O2")
    made = library(folder)
    run(compiler("gfortran"), *flags, folder / "caller.f90", made, "-o", folder / "fortran")
    shown = run(folder / "fortran").split()
    assert shown[0] == "0"
    np.testing.assert_allclose(np.array(shown[1:], float), p, atol=6e-4)


def test_rust(page):
    folder, p = page
    (program,) = blocks("rust")
    (folder / "caller.rs").write_text(program)
    flags = ("-D", "warnings", "-C", f"link-arg={library(folder)}", "-o", folder / "rust")
    run(compiler("rustc"), folder / "caller.rs", *flags)
    name, *shown = re.findall(r"[\w.]+", run(folder / "rust"))
    assert name == "setosa"
    np.testing.assert_allclose(np.array(shown, float), p, atol=6e-4)
