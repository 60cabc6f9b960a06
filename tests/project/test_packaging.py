"""What the installed distribution says about itself and holds, and that the sources agree."""

import re
import runpy
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import dlcore
from dlcore._common import tree

ROOT = Path(__file__).parents[2]
PACKAGE = Path(dlcore.__file__).parent
DISTRIBUTION = metadata.distribution("dlcore-kernels")
REQUIREMENTS = [Requirement(r) for r in DISTRIBUTION.requires]


def of_extra(extra):
    return [r for r in REQUIREMENTS if f'extra == "{extra}"' in str(r.marker)]


def test_numpy_is_the_only_requirement():
    assert [r.name for r in REQUIREMENTS if "extra" not in str(r.marker)] == ["numpy"]


def test_every_extra_is_in_all():
    extras = set(DISTRIBUTION.metadata.get_all("Provides-Extra"))
    assert {"plot", "progress", "demo", "test", "bench", "dev", "all"} <= extras
    assert [r.extras for r in of_extra("all")] == [extras - {"all"}]


@pytest.mark.parametrize("name", ["py.typed", "_native/_core.pyi", "reference/__init__.py"])
def test_package_holds(name):
    assert (PACKAGE / name).is_file()


def test_license_and_readme_are_in_the_metadata():
    assert DISTRIBUTION.metadata["License-Expression"] == "BSD-3-Clause"
    assert "## Train a network" in DISTRIBUTION.metadata.get_payload()


@pytest.mark.parametrize("source", [None, "https://forge.example/dlcore"])
def test_the_page_on_pypi_has_no_relative_link(source):
    page = runpy.run_path(str(ROOT / "packaging" / "pypi_readme.py"))["page"]
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    made = page(text, "1.2.3", source)
    relative = re.compile(r"\]\((?!https?://)")
    assert relative.search(text)
    assert not relative.search(made)
    if source:
        assert "[BSD-3-Clause](https://forge.example/dlcore/blob/v1.2.3/LICENSE)" in made
        assert "(https://forge.example/dlcore/raw/v1.2.3/docs/speed.png)" in made
    else:
        assert "BSD-3-Clause (`LICENSE`)" in made
        assert "speed.png" not in made


def test_the_conda_recipe_asks_for_what_the_wheel_asks_for():
    recipe = (ROOT / "packaging" / "conda" / "recipe.yaml").read_text(encoding="utf-8")
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    needed = pyproject["build-system"]["requires"] + pyproject["project"]["dependencies"]
    for requirement in map(Requirement, needed):
        assert f"- {requirement.name} {requirement.specifier}\n" in recipe


def test_the_promise_about_model_files_names_the_format_that_is_written():
    page = (ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8")
    assert f"has the number of its format, now {tree.FORMAT}.\n" in page


def test_version_comes_from_one_place():
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    version = pyproject["project"]["version"]
    assert DISTRIBUTION.version == version
    assert dlcore.__version__ == version


def test_changelog_has_the_version():
    assert f"\n## [{dlcore.__version__}] - " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_pre_commit_and_the_dev_extra_pin_the_same_versions():
    config = ROOT / ".pre-commit-config.yaml"
    if not config.exists():
        pytest.skip("the sdist leaves the pre-commit configuration out")
    hook = re.compile(r"/(?:mirrors-)?([\w-]+?)(?:-pre-commit)?\n +rev: v(\S+)")
    hooks = dict(hook.findall(config.read_text(encoding="utf-8")))
    pins = {r.name: str(r.specifier) for r in of_extra("dev") if "==" in str(r.specifier)}
    assert pins
    assert pins == {name: f"=={hooks[name]}" for name in pins}


def test_import_loads_no_optional_library():
    code = (
        "import sys, dlcore\n"
        "print(*{'matplotlib', 'scipy', 'sklearn', 'tqdm', 'torch', 'pytest'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


def test_wheels_hold_the_licences_of_the_libraries_that_they_carry():
    """NumPy, SciPy and scikit-learn were told so (numpy#8689)."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    paths = {path for pattern in project["license-files"] for path in ROOT.glob(pattern)}
    texts = " ".join(path.read_text(encoding="utf-8") for path in paths)
    words = " ".join(texts.split())
    for expected in (
        "Copyright (c)",
        "GNU GENERAL PUBLIC LICENSE Version 3, 29 June 2007",
        "GCC RUNTIME LIBRARY EXCEPTION Version 3.1",
        "libgomp-*.so*",
    ):
        assert expected in words


def test_pyinstaller_finds_the_hook():
    """Extension modules are imported by names made at run time (pyinstaller-hooks-contrib#277)."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (value,) = project["entry-points"]["pyinstaller40"].values()
    folders = metadata.EntryPoint("hook-dirs", value, "pyinstaller40").load()()
    hooks = [path for folder in folders for path in Path(folder).glob("hook-*.py")]
    assert [path.stem for path in hooks] == ["hook-dlcore"]
    hook = runpy.run_path(str(hooks[0]))
    built = {path.name.split(".")[0] for path in PACKAGE.joinpath("_native").glob("_c*.so")}
    assert {f"dlcore._native.{name}" for name in built} <= set(hook["hiddenimports"])
