"""Loggers: what each epoch logs in a file, or given to another library, while the fit goes on."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._common.atomic import replacing
from dlcore._common.checks import check_flag, check_positive_int
from dlcore._common.optional import require
from dlcore.callbacks._callback import Callback

if TYPE_CHECKING:
    from collections.abc import Iterable
    from os import PathLike

__all__ = ["CSVLogger", "JSONLogger", "TensorBoard"]


class _FileLogger(Callback):
    """Base class of the loggers that write a line an epoch."""

    _only_watches = True

    def __init__(self, path: str | PathLike[str], append: bool = False) -> None:
        self.path = os.fspath(path)
        self.append = check_flag(f"{type(self).__name__}: append", append)

    def on_fit_begin(self) -> None:
        """Begin the file; go on with it where the fit does, without what will come again."""
        if not self.trainer._reports:
            return
        first = self.trainer.first_epoch
        rows = list(self._read()) if (self.append or first) and Path(self.path).exists() else []
        if first:
            epochs = [row["epoch"] for row in rows]
            begins = [i for i, epoch in enumerate(epochs) if i == 0 or epoch <= epochs[i - 1]]
            begin = max(begins, default=0)  # of the fit that goes on
            rows = [row for i, row in enumerate(rows) if i < begin or row["epoch"] < first]
        self._begin(rows)

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Write the line of this epoch."""
        if not self.trainer._reports:
            return
        # Numbers of NumPy, which callbacks may add, become those that JSON has.
        own = {n: v.item() if isinstance(v, np.generic) else v for n, v in logs.items()}
        self._add({"epoch": epoch, **own})

    def _read(self) -> Iterable[dict[str, Any]]:
        """Give the lines that are whole; who was killed may have left another."""
        raise NotImplementedError

    def _begin(self, rows: list[dict[str, Any]]) -> None:
        """Write a file of these lines, in the place of the one that is there."""
        raise NotImplementedError

    def _add(self, row: dict[str, Any]) -> None:
        """Add a line."""
        raise NotImplementedError

    def _append(self, text: str) -> None:
        """Write to the end of the file, and all of it now."""
        with open(self.path, "a", encoding="utf-8", newline="") as file:
            file.write(text)

    def _replace(self, text: str) -> None:
        with replacing(self.path) as file:
            file.write(text.encode())


class CSVLogger(_FileLogger):
    """Write a line an epoch to a CSV file: "epoch", from 0, and what it logs, under a line of names.

    A line is in the file when the epoch ends, with all digits. A fit that goes on from a file
    (``fit(resume=)``) goes on with this one, too: epochs that were written after the state that it
    goes on from are taken back. What an epoch does not log is empty.

    Parameters
    ----------
    path : str or path
    append : bool
        Whether a fit adds to what is there. Else it begins the file anew.

    Raises
    ------
    OSError
        In a fit: the file cannot be written.
    """

    def _begin(self, rows: list[dict[str, Any]]) -> None:
        names = ["epoch", *self.trainer.log_names]
        self._names = list(dict.fromkeys([*(name for row in rows for name in row), *names]))
        self._rewrite(rows)

    def _rewrite(self, rows: list[dict[str, Any]]) -> None:
        lines = [self._line(self._names)]
        lines += [self._line([row.get(name, "") for name in self._names]) for row in rows]
        self._replace("".join(lines))

    def _add(self, row: dict[str, Any]) -> None:
        new = [name for name in row if name not in self._names]
        if new:  # a callback has added it to the logs
            self._names += new
            self._rewrite([*self._read(), row])
        else:
            self._append(self._line([row.get(name, "") for name in self._names]))

    def _read(self) -> Iterable[dict[str, Any]]:
        with open(self.path, encoding="utf-8", newline="") as file:
            lines = [line for line in file.read().splitlines(keepends=True) if line[-1:] == "\n"]
        for row in csv.DictReader(lines):
            own = {name: text for name, text in row.items() if name is not None and text}
            with contextlib.suppress(ValueError, KeyError):
                yield {**own, "epoch": int(own["epoch"])}

    @staticmethod
    def _line(values: Iterable[Any]) -> str:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(values)
        return text.getvalue()


class JSONLogger(_FileLogger):
    """Write a line of JSON an epoch to a file: ``{"epoch": 0, "loss": 0.7, ...}``.

    As `CSVLogger` does. NaN, which JSON has not, is null, and an infinity 1e999.

    Parameters
    ----------
    path : str or path
    append : bool
        Whether a fit adds to what is there. Else it begins the file anew.

    Raises
    ------
    OSError
        In a fit: the file cannot be written.
    """

    def _begin(self, rows: list[dict[str, Any]]) -> None:
        self._replace("".join(map(self._line, rows)))

    def _add(self, row: dict[str, Any]) -> None:
        self._append(self._line(row))

    def _read(self) -> Iterable[dict[str, Any]]:
        with open(self.path, encoding="utf-8") as file:
            for line in file:
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    row = json.loads(line)
                    row["epoch"] = int(row["epoch"])
                    yield row

    @staticmethod
    def _line(row: dict[str, Any]) -> str:
        items = (f"{json.dumps(name)}: {_number(value)}" for name, value in row.items())
        return "{" + ", ".join(items) + "}\n"


class TensorBoard(Callback):
    """Give what each epoch logs to a writer of TensorBoard's kind, or to anything with its method.

    Under the names of the history, by epoch from 0. A fit that goes on from a file gives an epoch
    again that it had given after the state that it goes on from; where this class makes the writer,
    TensorBoard then shows the later value alone.

    Parameters
    ----------
    writer : object or path
        Has ``add_scalar(name, value, step)``, as the SummaryWriter of tensorboardX and of PyTorch
        does, and those of a few lines for other libraries; its ``flush()`` is called after each
        epoch if it has one. Or a folder, for which one of tensorboardX is made for each fit.
    every_batches : int, optional
        Give the mean loss of every so many batches as well, as "batch_loss", by batch from 1, over
        all epochs.

    Raises
    ------
    ImportError
        tensorboardX is not installed, which a folder needs.
    """

    _only_watches = True

    def __init__(self, writer: Any, *, every_batches: int | None = None) -> None:
        name = type(self).__name__
        if not hasattr(writer, "add_scalar"):
            if not isinstance(writer, str | os.PathLike):
                raise TypeError(
                    f"{name}: writer must have add_scalar(name, value, step) or be a folder, "
                    f"not {writer!r}"
                )
            require("tensorboardX", name)
        self.writer = writer
        self.every_batches = every_batches
        if every_batches is not None:
            self.every_batches = check_positive_int(f"{name}: every_batches", every_batches)
        self._own: Any = None  # made of a folder

    def on_fit_begin(self) -> None:
        """Make a writer, if there is a folder."""
        if self.trainer._reports and not hasattr(self.writer, "add_scalar"):
            make = require("tensorboardX", type(self).__name__).SummaryWriter
            first = self.trainer.first_epoch
            self._own = make(os.fspath(self.writer), purge_step=first or None)

    def on_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        """Give the loss of some batches."""
        if self.trainer._reports:
            self._writer.add_scalar("batch_loss", logs["loss"], self._batches + batch + 1)

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Give what this epoch logs."""
        if not self.trainer._reports:
            return
        for name, value in logs.items():
            self._writer.add_scalar(name, value, epoch)
        if hasattr(self._writer, "flush"):
            self._writer.flush()

    def on_fit_end(self) -> None:
        """Close a writer that was made."""
        if self._own is not None:
            self._own.close()
            self._own = None

    @property
    def _batches(self) -> int:
        """Batches of the epochs that are complete."""
        return sum(self.trainer.history.batches)

    @property
    def _writer(self) -> Any:
        return self.writer if self._own is None else self._own

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_own": None}


def _number(value: Any) -> str:
    if not isinstance(value, float) or math.isfinite(value):
        return json.dumps(value)
    return "null" if math.isnan(value) else "1e999" if value > 0 else "-1e999"
