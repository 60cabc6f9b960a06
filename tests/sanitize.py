"""Builds one instruction-set level with sanitizers and runs tests under them.

    python tests/sanitize.py asan    # AddressSanitizer and UndefinedBehaviorSanitizer
    python tests/sanitize.py tsan    # ThreadSanitizer

Further arguments go to pytest. The build is that of the CMake preset of this name, the C++ tests run
first, and the package that is tested is a copy beside the build. The compiler is ``CXX``, by default
g++; with clang++ ThreadSanitizer sees the threads of the kernels as well.
"""

import os
import platform
import subprocess
import sys
import sysconfig
from pathlib import Path

from support.builds import ROOT, install_package, run

TESTS = ROOT / "tests"
CXX = os.environ.get("CXX", "g++")
IS_CLANG = "clang" in Path(CXX).name
# A Python that was configured with --with-thread-sanitizer has its runtime library already, and its
# own locks are seen: without the GIL, those of another Python are not.
HAS_TSAN = "--with-thread-sanitizer" in sysconfig.get_config_var("CONFIG_ARGS")

# The runtime libraries of the compilers, by sanitizer.
GCC = {"asan": ("libasan.so", "libubsan.so"), "tsan": ("libtsan.so",)}
CLANG = {name: (f"libclang_rt.{name}-{platform.machine()}.so",) for name in GCC}
LIBRARIES = CLANG if IS_CLANG else GCC
TARGETS = {
    "asan": (
        "functional/test_parity.py",
        "functional/test_norms.py",
        "functional/test_edges.py",
        "functional/test_few_classes.py",
        "nn/test_layers.py",
        "native/test_parallel.py",
        "native/test_races.py",
        "training/test_network.py",
        "training/test_sparse_layer.py",
    ),
    "tsan": ("native/test_races.py",),
}
OPTIONS = {
    # Python's own memory is left to the system when it exits.
    "ASAN_OPTIONS": "detect_leaks=0:handle_segv=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    # The GIL is a mutex, which is seen: nothing is suppressed.
    "TSAN_OPTIONS": "exitcode=66",
}
if not sysconfig.get_config_var("Py_GIL_DISABLED"):  # which has an allocator of its own
    # Each object is an allocation of its own, with red zones around it.
    OPTIONS["PYTHONMALLOC"] = "malloc"


def build(name):
    """Build the modules; return the folder to import the package from."""
    folder = ROOT / "build" / name
    compiler = f"-DCMAKE_CXX_COMPILER={CXX}", f"-DPython_EXECUTABLE={sys.executable}"
    # ThreadSanitizer does not see the barriers of libgomp, so the kernels are serial under it: what
    # can race are the threads that call.
    serial = ["-DDLCORE_OPENMP=OFF"] if name == "tsan" and not IS_CLANG else []
    run("cmake", "--preset", name, *compiler, *serial, cwd=ROOT)
    run("cmake", "--build", "--preset", name, "--parallel", os.cpu_count(), cwd=ROOT)
    return install_package(folder)


def library(name):
    """Return the path of a runtime library of the compiler."""
    found = subprocess.run(
        [CXX, f"-print-file-name={name}"], capture_output=True, text=True, check=True
    )
    return str(Path(found.stdout.strip()).resolve())


def without_random_addresses():
    """Return what to begin a command with: ThreadSanitizer maps its memory at fixed addresses."""
    command = ["setarch", platform.machine(), "-R"]
    try:
        works = subprocess.run([*command, "true"], check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        works = False
    return command if works else []


def main():
    name, *arguments = sys.argv[1:]
    package = build(name)
    start = without_random_addresses() if name == "tsan" else []
    environment = os.environ | OPTIONS
    if name == "tsan" and IS_CLANG:
        # LLVM's OpenMP tells what it synchronizes by this tool; what it does itself is not looked at.
        environment["OMP_TOOL_LIBRARIES"] = library("libarcher.so")
        environment["TSAN_OPTIONS"] += ":ignore_noninstrumented_modules=1"
    run(*start, "ctest", "--preset", name, cwd=ROOT, env=environment)
    # The sanitizer comes first of all libraries, then what it intercepts exceptions of.
    preload = [library(lib) for lib in (*LIBRARIES[name], "libstdc++.so.6")]
    if not (name == "tsan" and HAS_TSAN):
        environment["LD_PRELOAD"] = " ".join(preload)
    environment["PYTHONPATH"] = os.pathsep.join(map(str, (package, TESTS)))
    targets = [argument for argument in arguments if not argument.startswith("-")]
    pytest = [sys.executable, "-m", "pytest", "-n0", "-s", "-q", "-p", "no:cacheprovider"]
    run(
        *start, *pytest, *arguments, *(() if targets else TARGETS[name]), cwd=TESTS, env=environment
    )


if __name__ == "__main__":
    main()
