"""Plants bugs in a copy of the C++ sources, one by one, and runs the tests that are to catch them.

    python tests/plant_bugs.py [NAMES]

The bugs are those of planted_bugs.toml, all of them or those that are named. Prints a table of what
caught each, and fails where one survives, does not build, or has no place in the sources. One level
is built, below build/planted, where the next run goes on; with ccache a file that is itself again
takes no time. A test that dies or does not end has caught the bug as well as one that fails.
"""

import os
import re
import resource
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from support.builds import ROOT, install_package, run

TESTS = ROOT / "tests"
FOLDER = ROOT / "build" / "planted"
SOURCES, BUILD = FOLDER / "sources", FOLDER / "build"
LEVEL = "x86-64-v3"
SECONDS = 300  # of the processor, for the tests of a bug


def read_bugs():
    """Return the bugs by name."""
    bugs = tomllib.loads((TESTS / "planted_bugs.toml").read_text("utf-8"))["bugs"]
    by_name = {bug["name"]: bug for bug in bugs}
    assert len(by_name) == len(bugs), "two bugs have one name"
    return by_name


def planted(bug):
    """Return the one source file that is compiled with the bug in it, and its text.

    A bug of a header that many include is for one `unit` alone, in which it takes the place of the
    line that includes the header.
    """
    text = (ROOT / bug["file"]).read_text("utf-8")
    count = text.count(bug["before"])
    if count != 1:
        raise ValueError(f"{bug['name']}: {bug['file']} has its text {count} times, not once")
    text = text.replace(bug["before"], bug["after"])
    if "unit" not in bug:
        return bug["file"], text
    line = f'#include "{bug["file"].removeprefix("cpp/")}"'
    unit = (ROOT / bug["unit"]).read_text("utf-8")
    if unit.count(line) != 1:
        raise ValueError(f"{bug['name']}: {bug['unit']} does not have {line}")
    return bug["unit"], unit.replace(line, text.replace("#pragma once\n", ""))


def write(path, text):
    """Write what is new alone, so that nothing else is compiled again."""
    if not path.exists() or path.read_text("utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


def copy_sources():
    """Bring the copy up to date."""
    names = [p.relative_to(ROOT) for p in (ROOT / "cpp").rglob("*") if p.is_file()]
    names += [Path("CMakeLists.txt"), Path("pyproject.toml")]
    for name in names:
        write(SOURCES / name, (ROOT / name).read_text("utf-8"))
    for path in SOURCES.rglob("*"):
        if path.is_file() and path.relative_to(SOURCES) not in names:
            path.unlink()


def build():
    """Build the copy as it is; return the folder to import the package from."""
    copy_sources()
    launcher = ("-DCMAKE_CXX_COMPILER_LAUNCHER=ccache",) if shutil.which("ccache") else ()
    options = "-DCMAKE_BUILD_TYPE=RelWithDebInfo", "-DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-O1"
    where = "-S", SOURCES, "-B", BUILD, "-G", "Ninja", f"-DDLCORE_LEVELS={LEVEL}"
    run("cmake", *where, *options, f"-DPython_EXECUTABLE={sys.executable}", *launcher)
    run("cmake", "--build", BUILD)
    return install_package(BUILD)


def rebuild(package):
    """Build and install what has changed; return whether it compiles."""
    commands = (("--build", BUILD), ("--install", BUILD, "--prefix", package))
    return all(
        subprocess.run(["cmake", *command], capture_output=True, check=False).returncode == 0
        for command in commands
    )


def test(package, tests):
    """Return whether tests pass, or that they did not run, and the one that ended them."""
    options = "-n0", "-x", "-v", "--tb=no", "-p", "no:cacheprovider"
    path = os.pathsep.join(map(str, (package, TESTS)))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *tests],
        cwd=TESTS,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS)),
    )
    code, output = done.returncode, done.stdout
    begun = re.findall(r"^[\w/]+\.py::\w+", output, re.MULTILINE)
    if code > 1 or not begun:
        return "did not run", output.strip().rpartition("\n")[2]
    return ("failed" if code else "passed"), begun[-1]


def try_bug(package, bug):
    """Return what became of the bug and what caught it."""
    name, text = planted(bug)
    write(SOURCES / name, text)
    try:
        if not rebuild(package):
            return "did not build", ""
        said, by = test(package, bug["tests"])
        return {"passed": ("survived", ""), "failed": ("caught", by)}.get(said, (said, by))
    finally:
        write(SOURCES / name, (ROOT / name).read_text("utf-8"))


def main(names):
    bugs = read_bugs()
    chosen = [bugs[name] for name in names or bugs]
    for bug in chosen:
        planted(bug)
    package = build()
    print("| bug | kind | in | is | by |\n|---|---|---|---|---|")
    caught_by = []
    for bug in chosen:
        outcome, by = try_bug(package, bug)
        print(f"| {bug['name']} | {bug['kind']} | {bug['file']} | {outcome} | {by} |", flush=True)
        if outcome == "caught":
            caught_by.append(by)
    print(f"{len(caught_by)} of {len(chosen)} caught")
    # What fails without a bug, too, has caught none.
    rebuild(package)
    said, by = test(package, sorted(set(caught_by))) if caught_by else ("passed", "")
    if said != "passed":
        print(f"Without a bug {by} {said}")
    return 0 if said == "passed" and len(caught_by) == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
