"""`predict`: the outputs for any number of rows, into an array or a file, by one process or several."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from io import BytesIO
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from dlcore._common.agreement import raised_on_all
from dlcore._common.arrays import without_mask
from dlcore._common.atomic import replacing
from dlcore._common.checks import check_positive_int
from dlcore._common.ranks import Alone, Ranks
from dlcore.training._dataset import MappedFile, shared_map_of
from dlcore.training._evaluation import outputs_of, outputs_of_batches, outputs_of_parts
from dlcore.training._rows import as_rows
from dlcore.training._stream import is_batches
from dlcore.training._trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike

    from dlcore._common.typing import Array

__all__ = ["predict"]


def predict(
    model: Any,
    source: Any,
    out: Array | str | PathLike[str] | None = None,
    *,
    batch_size: int = 4096,
    comm: Any = None,
) -> Array:
    """Compute the outputs of a model, such as logits, for more rows than the memory holds.

    Parameters
    ----------
    model : Sequential, Trainer, Ensemble or Snapshot
    source : ndarray of shape (N, in_features), numpy.memmap, sparse matrix or iterable
        Rows as in `Trainer.fit`, such as ``np.load("x.npy", mmap_mode="r")``; or batches of them: x
        alone, (x, y) or (x, y, sample_weight).
    out : ndarray or path, optional
        Where the outputs go: an array of their shape, (N, out_features), and the model's dtype, such as
        a `numpy.memmap`; or the path of a file ``.npy``, which is there once it is whole. By default
        a new array.
    batch_size : int
        Rows that are computed at a time.
    comm : communicator, optional
        Ranks, such as ``mpi4py.MPI.COMM_WORLD``, each of which is given the same rows and computes its
        share of them, to the bits of one process. They write to one file, where `out` is a path or a
        `numpy.memmap` of a file that all of them see; else each gets the outputs of all.

    Returns
    -------
    ndarray
        `out`, a new array, or the read-only map of the file.

    Raises
    ------
    TypeError, ValueError
        The model, source or out is not as described, and nothing was written. What is wrong with a
        batch of an iterable is known when it comes: then `out` has the outputs of those before it, and
        a file is as it was.
    OSError
        The file cannot be written, and is as it was.
    RuntimeError
        Something failed on another rank.

    Notes
    -----
    What was read of a map, or written to it, does not stay in the memory of the process. A layer may
    find a fault in the middle of the rows, such as a category that it does not know: what was said of
    batches holds.

    Examples
    --------
    >>> import numpy as np, dlcore as dl
    >>> model = dl.Sequential(dl.Linear(4, 3), seed=0)
    >>> x = np.ones((10, 4), np.float32)
    >>> dl.predict(model, x, np.empty((10, 3), np.float32)).shape
    (10, 3)
    """
    ranks = Ranks(Alone() if comm is None else comm)
    with raised_on_all(ranks):
        model = _checked_model(model)
        check_positive_int("batch_size", batch_size)
        comes_in_batches = is_batches(source)
        if comes_in_batches and comm is not None:
            raise ValueError(
                "predict: with comm, source must be rows that all ranks see, not an iterable of "
                "batches; without comm each rank can be given batches of its own"
            )
    if not comes_in_batches:
        return _predict_rows(model, source, out, batch_size, ranks)
    return _predict_batches(model, source, out, batch_size)


def _checked_model(model: Any) -> Any:
    """Return what computes outputs."""
    model = model.model if isinstance(model, Trainer) else model
    if not all(hasattr(model, name) for name in ("dtype", "in_features", "out_features")):
        raise TypeError(
            f"predict: model must be a Sequential, Trainer, Ensemble or Snapshot, "
            f"not {type(model).__name__}"
        )
    return model


def _predict_rows(model: Any, source: Any, out: Any, batch_size: int, ranks: Ranks) -> Array:
    with raised_on_all(ranks):
        rows = as_rows(source, "source", model.dtype, model.in_features)
        shape = rows.shape[0], model.out_features or rows.shape[1]
        _check_out(out, shape, model.dtype, rows)
    path = os.fspath(out) if _is_path(out) else None
    is_shared = path is not None or (ranks.size > 1 and shared_map_of(out) is not None)
    ranks.check_same(
        "predict: (shape of the outputs, batch_size, file, whether out is one)",
        (shape, batch_size, path, is_shared),
    )
    # Whole batches, so that each is computed as by one process.
    batches = -(-shape[0] // batch_size)
    starts = [
        min(shape[0], batch_size * (batches * rank // ranks.size)) for rank in range(ranks.size + 1)
    ]
    start, own = starts[ranks.rank], rows[starts[ranks.rank] : starts[ranks.rank + 1]]
    if path is not None:
        with _npy_file(path, shape[1], model.dtype, ranks) as file:
            for outputs in outputs_of_parts(model, own, batch_size):
                file.write(start, outputs)
                start += len(outputs)
            file.rows = shape[0]
        return _mapped(path)
    array: Array = np.empty(shape, model.dtype) if out is None else out
    written, base = MappedFile(array), shared_map_of(array)
    with raised_on_all(ranks):
        for outputs in outputs_of_parts(model, own, batch_size):
            array[start : start + len(outputs)] = outputs
            start += len(outputs)
            written.release()
        if is_shared and base is not None:
            base.flush()  # other machines see what is in the file
    if not is_shared:
        ranks.share(array, starts)
    return array


def _predict_batches(model: Any, source: Any, out: Any, batch_size: int) -> Array:
    if out is None:
        return outputs_of(model, source, batch_size)
    _check_out(out, (None, model.out_features), model.dtype)
    batches = outputs_of_batches(model, source, "source", batch_size)
    rows = 0
    if _is_path(out):
        first = next(batches)
        with _npy_file(out, first.shape[1], model.dtype, Ranks(Alone())) as file:
            file.write(0, first)
            file.rows = len(first)
            for outputs in batches:
                file.write(file.rows, outputs)
                file.rows += len(outputs)
        return _mapped(out)
    array: Array = out
    written = MappedFile(array)
    for outputs in batches:
        end = rows + len(outputs)
        if end > len(array) or outputs.shape[1] != array.shape[1]:
            raise ValueError(
                f"predict: out has shape {array.shape}, too small for outputs of shape "
                f"({end}, {outputs.shape[1]}) or more"
            )
        array[rows:end] = outputs
        rows = end
        written.release()
    if rows < len(array):
        raise ValueError(f"predict: out has {len(array)} rows, source {rows}")
    return array


def _is_path(out: object) -> bool:
    return isinstance(out, str | os.PathLike)


def _check_out(
    out: Any, shape: tuple[int | None, int | None], dtype: np.dtype[Any], rows: Any = None
) -> None:
    """Make sure that outputs of this shape can be written, None standing for any size."""
    if out is None:
        return
    if _is_path(out):
        if not os.fspath(out).endswith(".npy"):
            raise ValueError(f"predict: out must end in .npy where it is a path, not {out}")
        return
    if not isinstance(out, np.ndarray):
        raise TypeError(f"predict: out must be an array or a path, not {type(out).__name__}")
    without_mask(out, "predict: out")
    if out.dtype != dtype:
        raise TypeError(f"predict: out is {out.dtype}, the outputs are {dtype}")
    fits = out.ndim == 2 and all(
        own in (None, has) for own, has in zip(shape, out.shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("N" if own is None else str(own) for own in shape)
        raise ValueError(f"predict: out must have the outputs' shape ({wanted}), not {out.shape}")
    if not out.flags.writeable:
        raise ValueError("predict: out is read-only")
    if isinstance(rows, np.ndarray) and np.shares_memory(rows, out):
        raise ValueError("predict: out shares memory with source, whose rows are still to be read")


class _NpyFile:
    """A file of NumPy's format ``.npy``, whose number of rows is known in the end."""

    def __init__(self, file: IO[bytes], width: int, dtype: np.dtype[Any]) -> None:
        self.rows = 0
        self._file, self._width, self._dtype = file, width, dtype
        self._begin = len(self._header())  # which has room for any number of rows

    def write(self, row: int, outputs: Array) -> None:
        """Write outputs from this row on."""
        if outputs.shape[1] != self._width:
            raise ValueError(
                f"predict: outputs of width {outputs.shape[1]} follow those of {self._width}"
            )
        self._file.seek(self._begin + row * self._width * self._dtype.itemsize)
        self._file.write(np.ascontiguousarray(outputs).data)

    def end(self) -> None:
        self._file.seek(0)
        self._file.write(self._header())

    def _header(self) -> bytes:
        header = BytesIO()
        array = {
            "descr": np.lib.format.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": (self.rows, self._width),
        }
        np.lib.format.write_array_header_1_0(header, array)
        return header.getvalue()


@contextmanager
def _npy_file(path: Any, width: int, dtype: np.dtype[Any], ranks: Ranks) -> Iterator[_NpyFile]:
    """Open a file that all ranks write to, and which takes the place of `path` once it is whole."""
    with ExitStack() as first, ExitStack() as others:
        file: Any = None
        with raised_on_all(ranks):
            if ranks.is_first:
                file = first.enter_context(replacing(path))
        name = ranks.of_first(None if file is None else file.name)
        with raised_on_all(ranks):
            if file is None:
                file = others.enter_context(open(name, "r+b"))
        with raised_on_all(ranks):
            npy = _NpyFile(file, width, dtype)
            yield npy
            if ranks.is_first:
                npy.end()
            others.close()
        with raised_on_all(ranks):
            first.close()


def _mapped(path: Any) -> Array:
    array: Array = np.load(path, mmap_mode="r")
    return array
