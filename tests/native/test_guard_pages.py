"""No kernel reads or writes a byte beyond its arrays: the pages around them must not be touched."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import dlcore
from support import guarded_models
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


def check(isa, family, directory, *everything, least=10_000):
    """Run the family in a process of its own, which must end well after so many calls."""
    record = directory / "record"
    process = start("-m", "support.guard_pages", isa, family, record, *everything)
    output, errors = process.communicate()
    assert process.returncode == 0, f"{isa}, {record.read_text().strip()}:\n{errors}"
    assert int(output.split()[0]) > least


each_isa = pytest.mark.parametrize("level", dlcore.available_isas())


@each_isa
@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_beyond_the_arrays_is_touched(family, level, tmp_path):
    check(level, family, tmp_path)


@each_isa
@pytest.mark.parametrize(
    ("family", "least"),
    [("inference", 4000), ("fits", 400), ("sparse rows", 1000), ("tables", 150)],
)
def test_a_network_touches_nothing_beyond_its_arrays(family, least, level, tmp_path):
    assert family in guarded_models.FAMILIES
    check(level, family, tmp_path, least=least)


@pytest.mark.slow
@each_isa
@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_beyond_the_arrays_is_touched_at_any_alignment(family, level, tmp_path):
    check(level, family, tmp_path, "all")


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


TOO_FAR = """
import numpy as np, dlcore as dl
from support.guarded_models import model_of, put
from support.guard_pages import Place
x, y = put(np.zeros((8, 5), np.float32), Place()), np.zeros((9, 3), np.float32)
longer = np.lib.stride_tricks.as_strided(x, (9, 5), writeable=False)
model = model_of("odd", np.float32, Place())
trainer = dl.Trainer(model, loss="mse", optimizer=dl.SGD(model.parameters(), lr=0.1))
{call}
"""


@pytest.mark.parametrize(
    "call", ["model(longer)", "trainer.fit(longer, y, epochs=1, batch_size=4, verbose=0)"]
)
def test_a_network_that_reads_too_far_is_a_fault(call):
    process = start("-c", TOO_FAR.format(call=call))
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGSEGV, errors
