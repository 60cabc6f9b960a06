"""`DLCORE_REPRODUCIBLE=1`: the same bits, whatever the processor has."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import dlcore as dl
from dlcore._native import dispatch

TESTS = Path(__file__).parents[1]
EXPECTED = json.loads((TESTS / "data" / "reproducible.json").read_text())
LEVELS = [isa for isa in dispatch._REPRODUCIBLE if dispatch._is_there(isa)]


def run(*command, **variables):
    own = {name: value for name, value in os.environ.items() if name != "DLCORE_ISA"}
    return subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
        cwd=TESTS,
        env=own | {"DLCORE_REPRODUCIBLE": "1"} | variables,
    )


def level(**variables):
    result = run("-c", "import dlcore; print(dlcore.isa()); dlcore.show_config()", **variables)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("isa", LEVELS)
@pytest.mark.parametrize("threads", ["1", "3"])
def test_bits_of_kernels_and_of_fits(isa, threads):
    result = run("-m", "support.reproducible", DLCORE_ISA=isa, DLCORE_NUM_THREADS=threads)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == {"level": isa, "hashes": EXPECTED}


@pytest.mark.parametrize("isa", dl.available_isas())
def test_a_level_that_has_the_bits_takes_the_place_of_another(isa):
    stands_in = [name for name, own in dispatch._REPRODUCIBLE.items() if isa in own]
    if stands_in and stands_in[0] in LEVELS:
        text = level(DLCORE_ISA=isa)
        assert text.splitlines()[0] == stands_in[0]
        assert "; the same bits as on other processors" in text
    else:
        result = run("-c", "import dlcore", DLCORE_ISA=isa)
        assert f"ImportError: DLCORE_REPRODUCIBLE=1 with DLCORE_ISA='{isa}' needs" in result.stderr


@pytest.mark.skipif(not LEVELS, reason="this build has no level for it, and says so")
def test_the_best_level_that_has_the_bits():
    assert level().splitlines()[0] == LEVELS[0]
    assert "the same bits" not in level(DLCORE_REPRODUCIBLE="0")
    assert "the same bits" not in level(DLCORE_REPRODUCIBLE="")


def test_anything_else_is_an_error():
    result = run("-c", "import dlcore", DLCORE_REPRODUCIBLE="yes")
    assert "ImportError: DLCORE_REPRODUCIBLE must be 1, 0 or empty, not 'yes'" in result.stderr
