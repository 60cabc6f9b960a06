"""Files that are written whole or not at all: faults of the disk, killed processes, permissions."""

import os
import resource
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dlcore._common import atomic, safetensors
from dlcore._common.atomic import replacing


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_file_is_there_once_it_is_complete(tmp_path):
    path = tmp_path / "a"
    with replacing(path) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_is_broken_off_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def write():
        with replacing(path) as file:
            file.write(b"new")
            raise error

    with pytest.raises(error):
        write()
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_permissions_and_links_are_kept(tmp_path):
    path, link, new = tmp_path / "a", tmp_path / "link", tmp_path / "new"
    path.write_bytes(b"old")
    path.chmod(0o640)
    link.symlink_to(path)
    mask = os.umask(0o027)
    try:
        for target in (link, new):
            with replacing(target) as file:
                file.write(b"new")
    finally:
        os.umask(mask)
    assert link.is_symlink()
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert stat.S_IMODE(new.stat().st_mode) == 0o640


def test_devices_and_folders_are_left_alone(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (fifo, tmp_path):
        with pytest.raises(OSError, match=f"{path.name} could not be written.*no regular file"):
            safetensors.write(path, {}, {})
    assert fifo.is_fifo()


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none/a could not be written.*No such file"):
        safetensors.write(tmp_path / "none" / "a", {}, {})


def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "a"
    safetensors.write(path, {"x": np.ones(10)}, {})
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(
            OSError, match="a could not be written and is as it was: File too large"
        ):
            safetensors.write(path, {"x": np.ones(10_000)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert names(tmp_path) == ["a"]


def test_a_read_only_folder_leaves_the_old_file(tmp_path):
    code = """
import os, sys
from dlcore._common import safetensors
if os.getuid() == 0:  # who may write everywhere
    os.setgid(65534)
    os.setuid(65534)
try:
    safetensors.write(sys.argv[1], {}, {"a": "b"})
except PermissionError as error:
    print(error)
"""
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "a"
    path.write_bytes(b"old")
    path.chmod(0o666)
    folder.chmod(0o555)
    for parent in tmp_path.parents[:2]:  # made by pytest for its user alone
        parent.chmod(0o755)
    tmp_path.chmod(0o755)
    try:
        run = subprocess.run(
            [sys.executable, "-c", code, path], check=False, capture_output=True, text=True
        )
    finally:
        folder.chmod(0o755)
    if "No module" in run.stderr or "Permission denied: '/root" in run.stderr:
        pytest.skip("another user cannot import the package")
    assert "a could not be written and is as it was: Permission denied" in run.stdout, run.stderr
    assert path.read_bytes() == b"old"


WRITER = """
import sys
import numpy as np
from dlcore._common import safetensors
value = 0
print("ready", flush=True)
while True:
    value += 1
    safetensors.write(sys.argv[1], {"x": np.full(200_000, value, float)}, {"value": str(value)})
"""


@pytest.mark.parametrize("times", [5, pytest.param(200, marks=pytest.mark.slow)])
def test_a_killed_process_leaves_a_whole_file(tmp_path, times):
    path = tmp_path / "a"
    rng = np.random.default_rng(0)
    for _ in range(times):
        process = subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE)
        process.stdout.readline()
        while not path.exists():
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.02))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        arrays, texts = safetensors.read(path)
        assert (arrays["x"] == float(texts["value"])).all()
        assert len(arrays["x"]) == 200_000
        assert len(names(tmp_path)) <= 2  # what one process left, the next one removes
    safetensors.write(path, {}, {})
    assert names(tmp_path) == ["a"]


def test_what_another_process_is_writing_is_left_alone(tmp_path):
    path = tmp_path / "a[1]"
    with replacing(path) as first:
        first.write(b"first")
        with replacing(path) as second:
            second.write(b"second")
        assert path.read_bytes() == b"second"
    assert path.read_bytes() == b"first"
    assert names(tmp_path) == ["a[1]"]


def test_windows_renames_and_removes_what_is_closed(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.delattr(atomic, "fcntl")
    path = tmp_path / "a"
    path.write_bytes(b"old")
    (tmp_path / ".a.1-0.tmp").write_bytes(b"left by a process that was killed")
    replace, written = Path.replace, []

    def replace_closed(source, target):
        written.append(file.closed)
        return replace(source, target)

    monkeypatch.setattr(Path, "replace", replace_closed)
    with atomic.replacing(path) as file:
        file.write(b"new")
    assert written == [True]
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["a"]
