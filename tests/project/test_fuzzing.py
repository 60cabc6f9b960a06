"""Some attempts of each fuzz target (tests/fuzz.py makes more), and that a fault is one."""

import numpy as np
import pytest

from fuzz import attempt, data_of
from support.fuzz_targets import TARGETS
from support.fuzzing import Choices, Fault, judge

COUNTS = {"arrays": 300, "options": 120, "streams": 25, "files": 20}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TARGETS)
def test_attempts_find_nothing(name):
    for index in range(COUNTS[name]):
        data = data_of(0, index)
        found = attempt(TARGETS[name], data)
        assert not found, f"python tests/fuzz.py {name} 0x{data.hex()}\n{found}"


def test_choices_are_made_of_bytes():
    choices = Choices(bytes([5, 0, 255, 255]))
    assert [choices.below(4), choices.pick("abc"), choices.pick("abc")] == [1, "a", "a"]


def raising(error):
    def call():
        raise error

    return call


def test_what_is_a_fault():
    x = np.ones(3)
    assert judge(lambda: 5, ["x"], [x]) == 5
    assert judge(raising(ValueError("f: num_features must be positive")), ["num_features"]) is None
    with pytest.raises(Fault, match="no argument is named"):
        judge(raising(TypeError("'<' not supported")), ["x"])
    with pytest.raises(Fault, match="ZeroDivisionError"):
        judge(raising(ZeroDivisionError("x")), ["x"])

    def change(error=None):
        x[0] += 1
        if error:
            raise error

    with pytest.raises(Fault, match="an argument changed"):
        judge(change, ["x"], [x])
    assert judge(change, ["x"], (), [x]) is None
    with pytest.raises(Fault, match="a result changed in spite of"):
        judge(lambda: change(ValueError("x")), ["x"], (), [x])
