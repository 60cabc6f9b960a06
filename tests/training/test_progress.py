"""What a fit shows: on a terminal, elsewhere, and with each ``verbose``."""

import os
import re
import struct
import subprocess
import sys

import pytest

FIT = """
import sys
import numpy as np
import dlcore as dl
if {without_tqdm}:
    sys.modules["tqdm"] = None
x, y = np.ones((640, 2), np.float32), np.ones(640, np.float32)
trainer = dl.Trainer(dl.Sequential(dl.Linear(2, 1), seed=0), loss="mse", metrics=["mae"], seed=0,
                     callbacks=[dl.EarlyStopping("mae", patience=1, min_delta=1e9)])
trainer.fit(x, y, epochs=12, validation_split=0.5, verbose={verbose!r})
"""
LINE = (
    r"epoch  {}/12  loss \d\.\d{{4}}  mae \d\.\d{{4}}  val_loss \d\.\d{{4}}  val_mae \d\.\d{{4}}"
    r"  \d+\.\d\d s"
)
STOPPED = r"stopped after epoch 2: mae has not improved for 1 epoch by more than 1e\+09 \(best: .*"


def command(verbose, without_tqdm=False):
    code = FIT.format(verbose=verbose, without_tqdm=without_tqdm)
    return [sys.executable, "-c", code]


def piped(*arguments, **options):
    return subprocess.run(
        command(*arguments, **options), check=True, capture_output=True, text=True, timeout=60
    )


def on_terminal(*arguments, **options):
    """Run on a pseudo-terminal; return all that was written to it."""
    pty, fcntl, termios = map(pytest.importorskip, ("pty", "fcntl", "termios"))
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    process = subprocess.Popen(command(*arguments, **options), stdout=theirs, stderr=theirs)
    os.close(theirs)
    written = b""
    while True:
        try:
            chunk = os.read(ours, 4096)
        except OSError:  # how Linux says that the other end is closed
            break
        if not chunk:
            break
        written += chunk
    os.close(ours)
    assert process.wait(60) == 0, written
    return written.decode()


def shown(written):
    """What is left on the screen: of each line the text after its last carriage return."""
    lines = written.replace("\r\n", "\n").split("\n")
    return [line.rsplit("\r", 1)[-1].replace("\x1b[A", "").rstrip() for line in lines]


def assert_lines(lines):
    assert len(lines) == 3
    for line, pattern in zip(lines, (LINE.format(1), LINE.format(2), STOPPED), strict=True):
        assert re.fullmatch(pattern, line), line


@pytest.mark.parametrize("verbose", ["auto", 2])
def test_one_line_an_epoch_elsewhere(verbose):
    result = piped(verbose)
    assert_lines(result.stdout.splitlines())
    assert result.stderr == ""


def test_verbose_0_shows_nothing():
    result = piped(0)
    assert result.stdout == result.stderr == ""
    assert on_terminal(0) == ""


@pytest.mark.parametrize("verbose", ["auto", 1])
def test_a_bar_below_the_lines_on_a_terminal(verbose):
    pytest.importorskip("tqdm")
    written = on_terminal(verbose)
    assert re.search(r"epoch 2/12: +\d+%\|.*/120 ", written)  # 320 rows are ten steps an epoch
    lines = [line for line in shown(written) if line]
    assert_lines(lines)  # the bar is gone in the end


def test_lines_on_a_terminal_without_tqdm():
    written = on_terminal("auto", without_tqdm=True)
    assert_lines(written.replace("\r\n", "\n").splitlines())


def test_lines_on_a_terminal_if_asked_for():
    assert_lines(on_terminal(2).replace("\r\n", "\n").splitlines())
