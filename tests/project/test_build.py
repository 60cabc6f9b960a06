"""The build: what CMake makes of the environment's compiler and flags."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        sys.platform != "linux" or not shutil.which("cmake") or not shutil.which("ninja"),
        reason="needs CMake and Ninja on Linux",
    ),
]


def configure(folder, flags, *definitions):
    given = f"-DPython_EXECUTABLE={sys.executable}", *definitions
    return subprocess.run(
        ["cmake", "-S", ROOT, "-B", folder, "-G", "Ninja", *given],
        env=os.environ | {"CXXFLAGS": flags},
        capture_output=True,
        text=True,
        check=False,
    )


def test_changed_flags_do_not_keep_what_was_built(tmp_path):
    first = configure(tmp_path, "-g")
    if first.returncode and "pybind11" in first.stderr:
        pytest.skip("needs pybind11")
    assert first.returncode == 0, first.stderr
    assert configure(tmp_path, "-g").returncode == 0
    changed = configure(tmp_path, "-g0")
    assert changed.returncode != 0
    assert "CXXFLAGS='-g0'" in changed.stderr
    assert str(tmp_path) in changed.stderr


def test_fast_arithmetic_of_the_environment_is_taken_back(tmp_path):
    fast = "-Ofast -ffast-math -ffinite-math-only"
    first = configure(tmp_path, fast)
    if first.returncode and "pybind11" in first.stderr:
        pytest.skip("needs pybind11")
    commands = subprocess.run(
        ["ninja", "-C", tmp_path, "-t", "commands"], capture_output=True, text=True, check=True
    ).stdout
    lines = [line for line in commands.splitlines() if fast in line]
    assert len(lines) > 10
    for line in lines:
        rest = line.rpartition("-Ofast")[2]
        for flag in ("-O3", "-fno-fast-math", "-fno-finite-math-only", "-ffp-contract=off"):
            assert flag in rest, line


def test_without_headers_it_says_what_to_install(tmp_path):
    run = configure(tmp_path / "build", "", f"-DPython_INCLUDE_DIR={tmp_path / 'missing'}")
    assert run.returncode != 0
    first, message = run.stderr.split("\n", 1)
    assert first.startswith("CMake Error at CMakeLists.txt")
    words = " ".join(message.split())
    assert words.startswith(f"There is no Python.h for {Path(sys.executable).parent}")
    assert "python3-dev on Debian" in words
