"""No kernel reads or writes a byte beyond its arrays: the pages around them must not be touched."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import dlcore
from support.guard_pages import FAMILIES

TESTS = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(os.name != "posix", reason="memory is guarded by mprotect")


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=TESTS,
    )


def check(family, directory, *everything):
    """Run the family at all instruction sets at once; each process must end well."""
    records = {isa: directory / isa for isa in dlcore.available_isas()}
    processes = {
        isa: start("-m", "support.guard_pages", isa, family, record, *everything)
        for isa, record in records.items()
    }
    outputs = {isa: process.communicate() for isa, process in processes.items()}
    for isa, process in processes.items():
        last = records[isa].read_text().strip()
        assert process.returncode == 0, f"{isa}, {last}:\n{outputs[isa][1]}"
        assert int(outputs[isa][0].split()[0]) > 10_000


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_beyond_the_arrays_is_touched(family, tmp_path):
    check(family, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_beyond_the_arrays_is_touched_at_any_alignment(family, tmp_path):
    check(family, tmp_path, "all")


TOUCH = """
import ctypes, numpy as np
from support.guard_pages import Place, Region
x = Place(behind={behind}).put(np.arange(5, dtype=np.uint8), Region(5))
at = x.ctypes.data + {index}
{action}
print("alive")
"""
READ, WRITE = "ctypes.string_at(at, 1)", "ctypes.memset(at, 0, 1)"


@pytest.mark.parametrize("action", [READ, WRITE], ids=["read", "write"])
@pytest.mark.parametrize(("behind", "inside", "beyond"), [(True, 4, 5), (False, 0, -1)])
def test_a_byte_beyond_an_array_is_a_fault(behind, inside, beyond, action):
    for index, code in ((inside, 0), (beyond, -signal.SIGSEGV)):
        process = start("-c", TOUCH.format(behind=behind, index=index, action=action))
        output, _ = process.communicate()
        assert process.returncode == code
        assert output == ("alive\n" if code == 0 else "")


def test_a_kernel_that_reads_too_far_is_a_fault():
    process = start(
        "-c",
        "import numpy as np, dlcore\n"
        "from support.guard_pages import Place, Region\n"
        "x = Place().put(np.zeros(5, np.float32), Region(20))\n"
        "longer = np.lib.stride_tricks.as_strided(x, (6,), writeable=False)\n"
        "dlcore.relu(longer, out=np.empty(6, np.float32))\n",
    )
    process.communicate()
    assert process.returncode == -signal.SIGSEGV
