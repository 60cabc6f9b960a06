"""Builds beside the checkout, by the scripts that test under a sanitizer or an emulator."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(*command, **options):
    print("+", *command, flush=True)
    return subprocess.run(list(map(str, command)), check=True, **options)


def configure_for_other_machine(folder, toolchain, options):
    """Configure the release in a folder by the text of a toolchain file, where pybind11 is ours."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "toolchain.cmake"
    file.write_text(toolchain)
    pybind11 = subprocess.run(
        [sys.executable, "-m", "pybind11", "--cmakedir"], capture_output=True, text=True, check=True
    )
    options = {"pybind11_DIR": pybind11.stdout.strip(), **options}
    definitions = [f"-D{name}={value}" for name, value in options.items()]
    run(
        *("cmake", "--preset", "release", "-B", folder, "--toolchain", file, *definitions),
        cwd=ROOT,
    )


def install_package(folder):
    """Copy the package beside a build and install the build's modules in it; return its folder."""
    package = folder / "package"
    shutil.rmtree(package, ignore_errors=True)
    shutil.copytree(
        ROOT / "python" / "dlcore",
        package / "dlcore",
        ignore=shutil.ignore_patterns("*.so", "__pycache__"),
    )
    run("cmake", "--install", folder, "--prefix", package)
    return package
