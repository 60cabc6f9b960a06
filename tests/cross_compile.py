"""Compiles the C++ tests for another system, and runs them where a Debian of x86-64 can.

    python tests/cross_compile.py windows  # by MinGW-w64 (g++-mingw-w64-x86-64-posix), run by Wine
    python tests/cross_compile.py musl     # by Zig (pip install ziglang)
    python tests/cross_compile.py macos    # by Zig, for arm64; what it makes does not run here
    python tests/cross_compile.py wasm     # by Emscripten, as for Pyodide, run by Node

All lies below ``build/``, Wine's own files too. The modules are not built: that takes the other
system's Python.
"""

import os
import sys
import sysconfig

from support.builds import ROOT, configure_for_other_machine, run

# A toolchain file each.
TOOLCHAINS = {
    "windows": """
        set(CMAKE_SYSTEM_NAME Windows)
        set(CMAKE_SYSTEM_PROCESSOR AMD64)
        set(CMAKE_CXX_COMPILER x86_64-w64-mingw32-g++-posix)
        set(CMAKE_EXE_LINKER_FLAGS_INIT -static)  # Wine does not know where the libraries lie
        set(CMAKE_CROSSCOMPILING_EMULATOR wine)
        set(OpenMP_gomp_LIBRARY gomp)  # by its name the static one is found
    """,
    "musl": """
        set(CMAKE_SYSTEM_NAME Linux)
        set(CMAKE_SYSTEM_PROCESSOR x86_64)
        set(CMAKE_CXX_COMPILER {zig} x86_64-linux-musl)
        # Zig's own library does not know the levels of processors.
        execute_process(COMMAND g++ -print-libgcc-file-name OUTPUT_VARIABLE libgcc
                        OUTPUT_STRIP_TRAILING_WHITESPACE)
        set(CMAKE_CXX_STANDARD_LIBRARIES_INIT ${{libgcc}})
    """,
    "macos": """
        set(CMAKE_SYSTEM_NAME Darwin)
        set(CMAKE_SYSTEM_PROCESSOR arm64)
        set(CMAKE_CXX_COMPILER {zig} aarch64-macos)
    """,
    "wasm": """
        include(/usr/share/emscripten/cmake/Modules/Platform/Emscripten.cmake)
        set(CMAKE_CXX_FLAGS_INIT "-msimd128 -fwasm-exceptions")
        set(DLCORE_OPENMP OFF)  # there are no threads
    """,
}
# Zig calls processors by names of its own, and takes -mtune for -march.
ZIG = """\
#!/bin/sh
target=$1; shift
for argument; do
  shift
  case $argument in
    -mtune=*) ;;
    -march=*) set -- "$@" "-march=$(echo "${{argument#*=}}" | tr - _)" ;;
    *) set -- "$@" "$argument" ;;
  esac
done
exec "{python}" -m ziglang c++ -target "$target" "$@"
"""


def main():
    system = " ".join(sys.argv[1:])
    if system not in TOOLCHAINS:
        sys.exit(f"system must be one of {', '.join(TOOLCHAINS)}, not {system!r}")
    folder = ROOT / "build" / system
    folder.mkdir(parents=True, exist_ok=True)
    zig = folder / "zig"
    zig.write_text(ZIG.format(python=sys.executable))
    zig.chmod(0o755)
    options = {
        "DLCORE_LEVELS": "",
        "Python_EXECUTABLE": sys.executable,
        # What CMake asks for, and nothing here reads.
        "Python_INCLUDE_DIR": sysconfig.get_path("include"),
        "Python_LIBRARY": "none",
        # pybind11 would try what only modules need, for which Zig compiles its libraries again.
        "CMAKE_INTERPROCEDURAL_OPTIMIZATION": "OFF",
    }
    toolchain = TOOLCHAINS[system].format(zig=zig)
    configure_for_other_machine(folder, toolchain, options)
    run("cmake", "--build", folder, "--target", "cpp_tests")
    if system != "macos":
        settings = {"WINEPREFIX": str(folder / "wine"), "WINEDEBUG": "-all"}
        run("ctest", "--test-dir", folder, "--output-on-failure", env=os.environ | settings)


if __name__ == "__main__":
    main()
