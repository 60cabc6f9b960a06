"""Builds dlcore for another machine and runs tests on it, emulated by QEMU, on a Debian of x86-64.

    apt-get install g++ g++-aarch64-linux-gnu qemu-user-static
    python tests/emulated.py aarch64
    python tests/emulated.py nehalem     # x86-64 of 2008: no AVX, where the second level must not run
    python tests/emulated.py core2duo    # x86-64 of 2006, which NumPy's wheels do not know any more

Further arguments go to pytest. All lies below ``build/``, and nothing is installed here: for aarch64
a Python with its headers, unpacked from Debian's packages, then an environment with the wheels that
the tests need, and the build. The C++ tests run first, and alone on the core2duo.
"""

import os
import shutil
import sys
import tomllib
from pathlib import Path

from support.builds import ROOT, configure_for_other_machine, install_package, run

TESTS = ROOT / "tests"

# The emulator, the processor's name, the compiler, the levels to build.
MACHINES = {
    "aarch64": (
        "qemu-aarch64-static",
        "aarch64",
        "aarch64-linux-gnu-g++",
        "aarch64;aarch64-reproducible",
    ),
    "nehalem": ("qemu-x86_64-static -cpu Nehalem", "x86_64", "g++", "x86-64;x86-64-v3"),
    "core2duo": ("qemu-x86_64-static -cpu core2duo", "x86_64", "g++", "x86-64"),
}
# What is quick enough: the emulator is some ten times slower than the machine it runs on.
TARGETS = (
    "native/test_isa.py",
    "native/test_math.py",
    "native/test_parallel.py",
    "native/test_reproducible.py",
    "functional/test_gradients.py",
)
DEBIAN = "python3", "libpython3-dev", "libstdc++6", "libgomp1"


def unpack_system(folder):
    """Unpack Debian's Python and what it needs, by an apt that knows of no installed package."""
    system, apt = folder / "system", folder / "apt"
    if system.exists():
        return system
    for part in ("lists/partial", "archives/partial"):
        (apt / part).mkdir(parents=True, exist_ok=True)
    (apt / "status").touch()
    settings = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "",
        "Dir::State": apt,
        "Dir::State::status": apt / "status",
        "Dir::Cache": apt,
        "Dir::Cache::archives": apt / "archives",
    }
    options = [f"-o{name}={value}" for name, value in settings.items()]
    run("apt-get", *options, "update")
    run("apt-get", *options, "--yes", "--download-only", "install", *DEBIAN)
    for package in sorted((apt / "archives").glob("*.deb")):
        run("dpkg-deb", "--extract", package, system)
    return system


def make_environment(folder, emulator, interpreter, processor):
    """Install the wheels where an interpreter finds them that is a script around the emulator."""
    python = folder / "environment" / "bin" / "python"
    python.parent.mkdir(parents=True, exist_ok=True)
    # Python takes its own name from the first argument, so what it starts is emulated as well.
    python.write_text(f'#!/bin/sh\nexec {emulator} -0 "$0" {interpreter} "$@"\n')
    python.chmod(0o755)
    (python.parent.parent / "pyvenv.cfg").write_text(f"home = {interpreter.parent}\n")
    version = interpreter.name.removeprefix("python")
    packages = python.parent.parent / "lib" / f"python{version}" / "site-packages"
    if not packages.exists():
        settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
        wheels = [
            *settings["project"]["dependencies"],
            *settings["project"]["optional-dependencies"]["sklearn"],
            *settings["tool"]["cibuildwheel"]["test-requires"],
        ]
        kinds = [f"--platform=manylinux_2_{minor}_{processor}" for minor in (34, 28, 27, 17)]
        where = "--only-binary=:all:", f"--python-version={version}", f"--target={packages}"
        run(sys.executable, "-m", "pip", "install", "--quiet", *kinds, *where, *wheels)
    # Some tests start Python without PYTHONPATH.
    (packages / "dlcore.pth").write_text(f"{folder}/build/package\n")
    return python


def build(folder, emulator, interpreter, processor, compiler, levels):
    """Build the modules and the C++ tests; return the folder to import the package from."""
    # The headers of Debian's Python include others, of which each architecture has its own.
    headers = interpreter.parent.parent / "include"
    toolchain = (
        "set(CMAKE_SYSTEM_NAME Linux)\n"
        f"set(CMAKE_SYSTEM_PROCESSOR {processor})\n"
        f"set(CMAKE_CXX_COMPILER {compiler})\n"
        f"set(CMAKE_CXX_FLAGS_INIT -idirafter{headers})\n"
        f"set(CMAKE_CROSSCOMPILING_EMULATOR {emulator.replace(' ', ';')})\n"
    )
    options = {
        "DLCORE_LEVELS": levels,
        "SKBUILD": "ON",  # as for a wheel: the bindings are compiled as one file
        "Python_EXECUTABLE": interpreter,
        # By this policy of CMake 4.1 the other machine's Python is asked, under the emulator.
        "CMAKE_POLICY_DEFAULT_CMP0190": "NEW",
        "PYBIND11_USE_CROSSCOMPILING": "ON",
    }
    built = folder / "build"
    configure_for_other_machine(built, toolchain, options)
    run("cmake", "--build", built)
    return install_package(built)


def main():
    name, *arguments = sys.argv[1:]
    if name not in MACHINES:
        sys.exit(f"machine must be one of {', '.join(MACHINES)}, not {name!r}")
    emulator, processor, compiler, levels = MACHINES[name]
    program, *options = emulator.split()
    # Its whole path, since some tests start Python without a PATH.
    emulator = " ".join([shutil.which(program) or program, *options])
    folder = ROOT / "build" / name
    interpreter = Path(sys.executable).resolve()
    if processor == "aarch64":
        system = unpack_system(folder)
        emulator += f" -L {system}"
        interpreter = (system / "usr" / "bin" / "python3").resolve()
    python = make_environment(folder, emulator, interpreter, processor)
    package = build(folder, emulator, interpreter, processor, compiler, levels)
    run("ctest", "--test-dir", folder / "build", "--output-on-failure")
    if name == "core2duo":
        return
    targets = [argument for argument in arguments if not argument.startswith("-")]
    path = os.pathsep.join(map(str, (package, TESTS)))
    pytest = python, "-m", "pytest", "-q", "-p", "no:cacheprovider"
    environment = os.environ | {"PYTHONPATH": path}
    run(*pytest, *arguments, *(() if targets else TARGETS), cwd=TESTS, env=environment)


if __name__ == "__main__":
    main()
