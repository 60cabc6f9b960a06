"""Builds the C++ tests for Windows by MinGW-w64 and runs them by Wine, on a Debian of x86-64.

    apt-get install g++-mingw-w64-x86-64-posix wine
    python tests/windows.py

All lies below ``build/windows``, Wine's own files too. The modules are not built: that takes a Python
of Windows.
"""

import os
import subprocess
import sys
import sysconfig

from support.builds import ROOT, run

FOLDER = ROOT / "build" / "windows"


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    toolchain = FOLDER / "toolchain.cmake"
    toolchain.write_text(
        "set(CMAKE_SYSTEM_NAME Windows)\n"
        "set(CMAKE_SYSTEM_PROCESSOR AMD64)\n"
        "set(CMAKE_CXX_COMPILER x86_64-w64-mingw32-g++-posix)\n"
        "set(CMAKE_EXE_LINKER_FLAGS_INIT -static)\n"  # Wine does not know where the libraries lie
        "set(CMAKE_CROSSCOMPILING_EMULATOR wine)\n"
    )
    pybind11 = subprocess.run(
        [sys.executable, "-m", "pybind11", "--cmakedir"], capture_output=True, text=True, check=True
    )
    options = {
        "DLCORE_LEVELS": "",
        "Python_EXECUTABLE": sys.executable,
        # What CMake asks for, and nothing here reads.
        "Python_INCLUDE_DIR": sysconfig.get_path("include"),
        "Python_LIBRARY": "none",
        "pybind11_DIR": pybind11.stdout.strip(),
    }
    definitions = [f"-D{name}={value}" for name, value in options.items()]
    run(
        *("cmake", "--preset", "release", "-B", FOLDER, "--toolchain", toolchain, *definitions),
        cwd=ROOT,
    )
    run("cmake", "--build", FOLDER, "--target", "cpp_tests")
    settings = {"WINEPREFIX": str(FOLDER / "wine"), "WINEDEBUG": "-all"}
    run("ctest", "--test-dir", FOLDER, "--output-on-failure", env=os.environ | settings)


if __name__ == "__main__":
    main()
