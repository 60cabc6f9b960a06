"""Whole objects in files that run no code when they are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dlcore._common.tree import read_metadata, read_tree, write_tree
from dlcore.many._ensemble import Ensemble
from dlcore.nn._sequential import Sequential
from dlcore.preprocessing._state import NORMALIZERS
from dlcore.saving._objects import Maker, describe, is_estimator

if TYPE_CHECKING:
    from collections.abc import Iterable
    from os import PathLike

__all__ = ["load", "load_metadata", "save"]

_KINDS = ("model", "ensemble", "normalizer", "estimator")


def save(obj: Any, path: str | PathLike[str], *, metadata: dict[str, Any] | None = None) -> None:
    """Write a model, an ensemble, a normalizer or an estimator to a file, from which `load` makes it again.

    The file is in the safetensors format, with the arrays under the names of ``state_dict`` and all
    else as JSON in its metadata: the safetensors library reads the weights, and no pickle is
    involved. It is written beside and takes its place once it is on the disk, so that there is
    never half a file.

    Parameters
    ----------
    obj : Sequential, Ensemble, normalizer such as ZScoreNormalizer, or estimator of `dlcore.sklearn`
        A `Sequential` with its layers and their options, weights, running statistics, dtype and what
        is frozen; an estimator, or a `sklearn.pipeline.Pipeline` of such, with its parameters, what
        it has learned and its optimizer, so that ``partial_fit`` and ``warm_start`` go on.
    path : str or path
        The file, such as "model.safetensors"; it is replaced if it exists.
    metadata : dict, optional
        What belongs to it, for `load_metadata`: dicts, lists, tuples, numbers, texts, arrays, and
        objects as ``obj`` may be, such as the fitted normalizer of the inputs.

    Raises
    ------
    TypeError
        There is no form for the object or for something that it holds; the message says where.
    OSError
        The file cannot be written; what was there before is as it was.

    Examples
    --------
    >>> import dlcore as dl, numpy as np, os, tempfile
    >>> model = dl.Sequential(dl.Linear(4, 8), dl.ReLU(), dl.Linear(8, 3), seed=0)
    >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
    >>> dl.save(model, path, metadata={"classes": ["setosa", "versicolor", "virginica"]})
    >>> dl.load(path)
    Sequential(  # 67 parameters, float32
      (0): Linear(4, 8)
      (1): ReLU()
      (2): Linear(8, 3)
    )
    >>> dl.load_metadata(path)["classes"][0]
    'setosa'
    """
    if isinstance(obj, Sequential):
        kind = "model"
    elif type(obj) is Ensemble:
        kind = "ensemble"
    elif NORMALIZERS.get(type(obj).__name__) is type(obj):
        kind = "normalizer"
    elif is_estimator(obj):
        kind = "estimator"
    else:
        raise TypeError(
            f"save: a {type(obj).__name__} has no form in a file, but a Sequential, an Ensemble, the "
            f"normalizers ({', '.join(NORMALIZERS)}) and the estimators of dlcore.sklearn have; "
            f"Trainer.save(path) saves a training"
        )
    if metadata is not None and type(metadata) is not dict:
        raise TypeError(f"save: metadata must be a dict, not {type(metadata).__name__}")
    write_tree(path, kind, obj, metadata=metadata, describe=describe)


def load(path: str | PathLike[str], *, classes: Iterable[type] = ()) -> Any:
    """Read what `save` wrote: a model, an ensemble, a normalizer or an estimator.

    No code of the file runs, and nothing in it is taken for granted: a file that is damaged, or made
    to do harm, is an error before memory is asked for that its size does not explain.

    Parameters
    ----------
    path : str or path
    classes : iterable of class
        Classes of your own that are in the file, such as a subclass of `Linear`. Their constructors
        are not called; the attributes that the objects had are set.

    Returns
    -------
    Sequential, normalizer or estimator
        As it was when it was saved, to the bit.

    Raises
    ------
    ValueError
        The file is damaged, was written by a newer version in a format that this one does not
        know, holds something else, or has a class of your own that is not among ``classes``; the
        message has the path.
    OSError
        The file cannot be read.
    ImportError
        It holds an estimator, and scikit-learn is not installed.
    """
    return read_tree(path, *_KINDS, make=Maker(classes))


def load_metadata(path: str | PathLike[str], *, classes: Iterable[type] = ()) -> dict[str, Any]:
    """Read the ``metadata`` that `save` was given, without the object that was saved.

    Parameters and errors are those of `load`.

    Returns
    -------
    dict
        Empty if there was none.
    """
    metadata = read_metadata(path, Maker(classes))
    return metadata if isinstance(metadata, dict) else {}
