"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import glob
import itertools
import os
import stat
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

if sys.platform != "win32":
    import fcntl

_numbers = itertools.count()


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a file to write, which takes the place of ``path`` once all of it is on the disk.

    Whatever happens before, a full disk, an exception or the end of the process, ``path`` is as it
    was. A link is followed, and a file that is replaced keeps its permissions.

    Parameters
    ----------
    path : str or path
        The file; its folder must exist.

    Raises
    ------
    OSError
        It cannot be written; the message has the path and the reason.
    """
    target = Path(os.path.realpath(path))
    try:
        mode = _mode_of(target)
        _remove_left(target)
        temporary, file = _beside(target)
    except OSError as error:
        raise _not_written(path, error) from error
    try:
        try:
            with file:
                yield file
                file.flush()
                if mode is not None:
                    temporary.chmod(mode)
                os.fsync(file.fileno())
                if sys.platform != "win32":  # before it is unlocked
                    temporary.replace(target)
            if sys.platform == "win32":  # where an open file keeps its name
                temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(target.parent)
    except OSError as error:
        raise _not_written(path, error) from error


def _not_written(path: str | os.PathLike[str], error: OSError) -> OSError:
    reason = error.strerror or str(error)
    return OSError(
        error.errno, f"{os.fspath(path)} could not be written and is as it was: {reason}"
    )


def _mode_of(target: Path) -> int | None:
    """Return the permissions of a file that may be replaced, None if there is none."""
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(mode):  # a rename would take the place of a device such as /dev/null
        raise OSError(None, "it is no regular file")
    if not os.access(target, os.W_OK):
        raise PermissionError(None, "it may not be written")
    return stat.S_IMODE(mode)


def _beside(target: Path) -> tuple[Path, IO[bytes]]:
    """Make a file in the same folder, locked as long as it is open."""
    while True:
        temporary = target.with_name(f".{target.name}.{os.getpid()}-{next(_numbers)}.tmp")
        try:
            # Made with the permissions that the umask leaves, unlike those of tempfile.
            file = temporary.open("xb")
        except FileExistsError:  # left by a process of this number
            continue
        _lock(file)
        if os.fstat(file.fileno()).st_nlink:
            return temporary, file
        file.close()  # it was taken for one that was left before it was locked


def _remove_left(target: Path) -> None:
    """Remove what processes left that were killed while they wrote: nobody locks it any more."""
    for path in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):
        with contextlib.suppress(OSError):
            if sys.platform == "win32":  # where nobody removes a file that is open
                path.unlink()
                continue
            with path.open("rb") as file:
                if _lock(file):
                    path.unlink()


def _lock(file: IO[bytes]) -> bool:
    """Lock a file for this process; False if another one has, or the file system cannot."""
    if sys.platform == "win32":  # where being open is lock enough
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _sync_folder(folder: Path) -> None:
    """Bring a new name to the disk, where the file system does so on request."""
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY)  # Windows opens no folder
        try:
            os.fsync(number)
        finally:
            os.close(number)
