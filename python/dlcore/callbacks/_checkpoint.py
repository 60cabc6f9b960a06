"""`ModelCheckpoint`: writes the state of a fit to files, from which it goes on."""

from __future__ import annotations

import contextlib
import glob
import math
import os
import string
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlcore._common.checks import check_choice, check_flag, check_positive, check_positive_int
from dlcore.callbacks._callback import may_log
from dlcore.callbacks._monitor import ComparingCallback

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike

__all__ = ["ModelCheckpoint"]

# What files are found by, for the fields that are numbers of their own.
_GLOBS: dict[str | None, str] = {"epoch": "[0-9]*", "batch": "[0-9]*"}
_UNITS = ("epochs", "batches", "minutes")


class ModelCheckpoint(ComparingCallback):
    """Write the state of a fit to a file every so often; ``fit(resume=path)`` goes on with it.

    What is written is the whole state, as by `Trainer.save`: a fit that was cut off and resumed ends
    with the same bits as one that was not. It is written once all callbacks have seen the epoch,
    wherever this one stands among them, and always at the end of the fit, unless ``save_best_only``.

    Parameters
    ----------
    path : str or path
        The file, which is replaced each time, by a rename: whatever happens, it holds a whole state.
        Fields make a file of each: ``"run-{epoch:03d}-{val_loss:.3f}.safetensors"``. ``epoch`` is
        counted from 1, ``batch`` is how many of the next epoch are done, and the others are logs of
        the epoch. Its folder is made if there is none.
    monitor : str, optional
        Name of the log that says which epoch is the best one, such as "val_loss".
    mode : {"auto", "min", "max"}
        Whether smaller or greater is better; "auto" tells by the name.
    save_best_only : bool
        Write after epochs that are better than all before, alone.
    every : int or float
        Write after so many epochs, batches or minutes,
    unit : {"epochs", "batches", "minutes"}
        within an epoch as well, but for epochs: between two updates. Minutes may be a fraction.
    keep : int, optional
        Files to keep, the newest ones and that of the best epoch; by default all.

    Attributes
    ----------
    best : float or None
        The best value so far,
    best_epoch : int or None
        its epoch, counted from 0,
    best_path : str or None
        and the file that was written then.

    Raises
    ------
    ValueError
        An argument is not as described.
    OSError
        In a fit: a file cannot be written. The one that was there is as it was.

    Notes
    -----
    Of the callbacks it writes what their `Callback.state_dict` returns.
    """

    _only_watches = True
    _state_names = ("best", "best_epoch", "best_path", "_written")

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        monitor: str | None = None,
        mode: str = "auto",
        save_best_only: bool = False,
        every: float = 1,
        unit: str = "epochs",
        keep: int | None = None,
    ) -> None:
        name = type(self).__name__
        self.save_best_only = check_flag(f"{name}: save_best_only", save_best_only)
        if monitor is not None:
            super().__init__(monitor, mode)
        elif save_best_only or mode != "auto":
            what = "save_best_only" if save_best_only else "mode"
            raise ValueError(f"{name}: {what} needs monitor, such as monitor='val_loss'")
        else:
            self._given_mode = mode
        self._monitors = monitor is not None
        if monitor is None:
            self.monitor = None  # type: ignore[assignment]
        self.path = os.fspath(path)
        self.unit = check_choice(f"{name}: unit", unit, _UNITS)
        self.every: float = (
            check_positive(f"{name}: every", every)
            if unit == "minutes"
            else check_positive_int(f"{name}: every", every)
        )
        self.keep = None if keep is None else check_positive_int(f"{name}: keep", keep)
        if save_best_only and (unit != "epochs" or every != 1):
            raise ValueError(
                f"{name}: save_best_only looks at every epoch: leave out every and unit"
            )
        self._fields = _fields_of(self.path)
        if keep is not None and not self._fields:
            raise ValueError(f"{name}: keep needs a path with a field such as {{epoch}}")
        if unit != "epochs" and (others := self._fields - {"epoch", "batch"}):
            raise ValueError(
                f"{name}: path has {{{', '.join(sorted(others))}}}, but within an epoch there are "
                f"no logs: only {{epoch}} and {{batch}}"
            )
        self._start_anew()

    def _start_anew(self) -> None:
        self.best: float | None = None
        self.best_epoch: int | None = None
        self.best_path: str | None = None
        self._written: list[str] = []
        self._batches = 0  # since the last file
        self._saved_at = time.monotonic()

    def on_fit_begin(self) -> None:
        """Forget an earlier fit; what the path and ``monitor`` name must be logged."""
        if self._monitors:
            super().on_fit_begin()
        run: Any = self.trainer
        name = type(self).__name__
        if not hasattr(run, "save"):
            raise ValueError(
                f"{name} writes the fits of a Trainer: a fitted estimator is written by dlcore.save"
            )
        unknown = self._fields - {"epoch", "batch", *run.log_names}
        if unknown and not any(map(may_log, run.active_callbacks)):
            raise ValueError(
                f"{name}: path has {{{', '.join(sorted(unknown))}}}, but this fit logs only "
                f"{', '.join(run.log_names)}"
            )
        folder = Path(self.path).parent
        if run._reports and not _fields_of(str(folder)):
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(f"{name}: no file can be made in {folder}")
        if Path(self.path).is_dir():
            raise IsADirectoryError(f"{name}: {self.path} is a folder, not a file")
        self._start_anew()

    # ---- what is there

    @property
    def last_path(self) -> Path | None:
        """The newest file that it has written, in an earlier process as well; None without one."""
        pattern = "".join(
            glob.escape(text) + _GLOBS.get(field, "" if field is None else "*")
            for text, field, *_ in string.Formatter().parse(self.path)
        )
        found = [Path(path) for path in glob.glob(pattern)] if self._fields else [Path(self.path)]
        dated = []
        for path in found:
            with contextlib.suppress(FileNotFoundError):
                dated.append((path.stat().st_mtime_ns, path))
        return max(dated, default=(0, None))[1]

    def writes(self, path: Any) -> bool:
        """Whether this is the file that it replaces each time."""
        return bool(Path(path).absolute() == Path(self.path).absolute())

    # ---- when it writes

    @property
    def batches_left(self) -> int | None:
        """Batches until the next file; None if it does not go by them."""
        return int(self.every) - self._batches if self.unit == "batches" else None

    def count(self, batches: int) -> None:
        """Count batches that were learned from."""
        self._batches += batches

    @property
    def is_due(self) -> bool:
        """Whether a file is to be written within an epoch."""
        if self.unit == "batches":
            return self._batches >= self.every
        return self.unit == "minutes" and time.monotonic() - self._saved_at >= 60 * self.every

    def save_within(self, epoch: int, batch: int) -> None:
        """Write the state within an epoch, of which so many batches are done."""
        self._save({"epoch": epoch, "batch": batch})

    def save_after(self, epoch: int, logs: Mapping[str, float], *, is_last: bool) -> None:
        """Write the state after an epoch, if it is time to."""
        value = self._value(dict(logs)) if self._monitors else None
        is_better = value is not None and self._is_better(value)
        if is_better:
            self.best, self.best_epoch = value, epoch
        if self.save_best_only:
            is_due = is_better
        elif self.unit == "epochs":
            is_due = is_last or (epoch + 1) % self.every == 0
        else:
            is_due = is_last or self.is_due
        if is_due:
            self._save({**logs, "epoch": epoch + 1, "batch": 0}, is_best=is_better)

    def _is_better(self, value: float) -> bool:
        if self.best is None:
            return not math.isnan(value)
        return self._better(value, self.best)

    def _save(self, fields: dict[str, Any], *, is_best: bool = False) -> None:
        missing = self._fields - fields.keys()
        if missing:
            raise ValueError(
                f"{type(self).__name__}: path has {{{', '.join(sorted(missing))}}}, but epoch "
                f"{fields['epoch']} logs only {', '.join(fields)}"
            )
        path = self.path.format(**fields) if self._fields else self.path
        if is_best:
            self.best_path = path
        self._written = [*(old for old in self._written if old != path), path]
        older = [] if self.keep is None else self._written[: -self.keep]
        old = [own for own in older if own != self.best_path]
        self._written = [own for own in self._written if own not in old]
        self._batches, self._saved_at = 0, time.monotonic()
        run: Any = self.trainer
        if not run._reports:
            return
        if self._fields:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        run.save(path)
        for own in old:
            Path(own).unlink(missing_ok=True)


def _fields_of(path: str) -> set[str]:
    """Name the fields of a path."""
    try:
        fields = {field for _, field, *_ in string.Formatter().parse(path) if field is not None}
    except ValueError as error:
        raise ValueError(
            f"ModelCheckpoint: path {path!r} has fields that are none: {error}"
        ) from None
    for field in fields:
        if not field.isidentifier():
            raise ValueError(
                f"ModelCheckpoint: path {path!r} has the field {{{field}}}, which is no name of a log"
            )
    return fields
