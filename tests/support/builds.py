"""Builds beside the checkout, by the scripts that test under a sanitizer or an emulator."""

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(*command, **options):
    print("+", *command, flush=True)
    return subprocess.run(list(map(str, command)), check=True, **options)


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
