"""Calls what users call with strange arguments until time is over, and prints what it found.

    python tests/fuzz.py TARGET [SECONDS] [SEED]   # arrays, options, streams or files
    python tests/fuzz.py TARGET 0x2a00...          # the attempt of these bytes alone

Found is a process that dies or hangs, an exception that is not documented or names no argument, and
an array that has changed though the call raised. Each attempt is made of bytes, which are printed
with what they lead to. Where atheris is installed, --atheris has them led by the lines of the package
that they reach, in place of chance.
"""

import faulthandler
import re
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

BYTES = 64  # of an attempt
HANGS = 120  # seconds
MEMORY = 6 << 30


def data_of(seed, index):
    """Return the bytes of an attempt."""
    return np.random.default_rng((seed, index)).bytes(BYTES)


def attempt(target, data):
    """Return the traceback of what was found, or None."""
    from support.fuzzing import Choices, Fault

    try:
        target(Choices(data))
    except Fault:
        return traceback.format_exc()
    return None


def kind_of(found):
    """What is the same for all that one fault leads to: the last line of the package, its message."""
    lines = re.findall(r"/dlcore/(\S+), line (\d+)", found)
    return lines[-1] if lines else found.strip().splitlines()[-1][:60]


def work(name, seconds, seed, first):
    """Make attempts in this process, and say which one before each."""
    from support.fuzz_targets import TARGETS

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    end, seen, index = time.monotonic() + seconds, set(), first
    while time.monotonic() < end:
        faulthandler.dump_traceback_later(HANGS, exit=True)
        data = data_of(seed, index)
        Path(f"{name}.at").write_text(f"{index} {0} {data.hex()}")
        found = attempt(TARGETS[name], data)
        index += 1
        if found and kind_of(found) not in seen:
            seen.add(kind_of(found))
            print(f"0x{data.hex()}\n{found}", flush=True)
    Path(f"{name}.at").write_text(f"{index} {len(seen)} ")
    faulthandler.cancel_dump_traceback_later()


def run(name, seconds, seed):
    """Make attempts in processes of their own; return how many there were and what was found."""
    end, index, found = time.monotonic() + seconds, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder) / f"{name}.at"
        while (left := end - time.monotonic()) > 0:
            command = [sys.executable, __file__, name, str(left), str(seed), "--from", str(index)]
            done = subprocess.run(command, cwd=folder, check=False)
            said, faults, data = (at.read_text() if at.exists() else f"{index} 0 ").split(" ")
            index, found = int(said), found + int(faults)
            if done.returncode == 0:
                break
            index, found = index + 1, found + 1
            print(f"0x{data}\nThe process ended with {done.returncode}", flush=True)
            if not data:
                break
    return index, found


def lead(name, seconds):
    """Have atheris lead the bytes."""
    import atheris

    with atheris.instrument_imports(include=["dlcore"]):
        from support.fuzz_targets import TARGETS

    from support.fuzzing import Choices

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    arguments = [sys.argv[0], f"-max_total_time={seconds}", f"-timeout={HANGS}", "-max_len=256"]
    atheris.Setup([*arguments, "-rss_limit_mb=0"], lambda data: TARGETS[name](Choices(data)))
    atheris.Fuzz()


def main(arguments):
    options = [a for a in arguments if not a.startswith("--")]
    name, seconds, seed = [*options, *("60", "0")[len(options) - 1 :]][:3]
    if seconds.startswith("0x"):
        from support.fuzz_targets import TARGETS

        found = attempt(TARGETS[name], bytes.fromhex(seconds[2:]))
        print(found or "nothing")
        return bool(found)
    if "--atheris" in arguments:
        return lead(name, int(seconds))
    if "--from" in arguments:
        return work(name, float(seconds), int(seed), int(options[3]))
    began = time.monotonic()
    count, found = run(name, float(seconds), int(seed))
    print(f"{name}: {count} attempts in {time.monotonic() - began:.0f} s, {found} faults")
    return found > 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
