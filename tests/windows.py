"""Builds the C++ tests for Windows by MinGW-w64 and runs them by Wine, on a Debian of x86-64.

    apt-get install g++-mingw-w64-x86-64-posix wine
    python tests/windows.py

All lies below ``build/windows``, Wine's own files too. The modules are not built: that takes a Python
of Windows.
"""

import os
import sys
import sysconfig

from support.builds import ROOT, configure_for_other_machine, run

FOLDER = ROOT / "build" / "windows"


def main():
    toolchain = (
        "set(CMAKE_SYSTEM_NAME Windows)\n"
        "set(CMAKE_SYSTEM_PROCESSOR AMD64)\n"
        "set(CMAKE_CXX_COMPILER x86_64-w64-mingw32-g++-posix)\n"
        "set(CMAKE_EXE_LINKER_FLAGS_INIT -static)\n"  # Wine does not know where the libraries lie
        "set(CMAKE_CROSSCOMPILING_EMULATOR wine)\n"
    )
    options = {
        "DLCORE_LEVELS": "",
        "Python_EXECUTABLE": sys.executable,
        # What CMake asks for, and nothing here reads.
        "Python_INCLUDE_DIR": sysconfig.get_path("include"),
        "Python_LIBRARY": "none",
        "OpenMP_gomp_LIBRARY": "gomp",  # by its name the static one is found
    }
    configure_for_other_machine(FOLDER, toolchain, options)
    run("cmake", "--build", FOLDER, "--target", "cpp_tests")
    settings = {"WINEPREFIX": str(FOLDER / "wine"), "WINEDEBUG": "-all"}
    run("ctest", "--test-dir", FOLDER, "--output-on-failure", env=os.environ | settings)


if __name__ == "__main__":
    main()
