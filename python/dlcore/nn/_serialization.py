"""Arrays in safetensors files, which PyTorch and others read and write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._common.optional import require

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike

    from dlcore._common.typing import Array

__all__ = ["load_safetensors", "save_safetensors"]

# What the format calls the dtypes that NumPy has, and those that are met and that it has not.
_DTYPES = ("BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64", "F16", "F32", "F64", "C64")
_LONG = {"BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}


def load_safetensors(path: str | PathLike[str], prefix: str = "") -> dict[str, Array]:
    """Read a safetensors file, such as the ``state_dict`` of a PyTorch model.

    Parameters
    ----------
    path : str or path
        The file, as `save_safetensors` or ``safetensors.torch.save_file`` writes it.
    prefix : str
        Read the arrays alone whose names begin with it, and take it off: "net." for the
        ``torch.nn.Sequential`` that a module has as its attribute ``net``.

    Returns
    -------
    dict of str to ndarray
        The arrays by name, for ``model.load_state_dict``. They have the dtypes of the file: a
        float16 one is for the caller to convert.

    Raises
    ------
    ImportError
        The package safetensors is not installed.
    TypeError
        NumPy does not have the dtype of an array, such as bfloat16.
    ValueError
        The file is no safetensors file, or no name begins with the prefix.

    Notes
    -----
    ``model.load_state_dict(load_safetensors("weights.safetensors"))`` takes the weights over.

    References
    ----------
    The format: https://huggingface.co/docs/safetensors
    """
    safetensors = require("safetensors", "load_safetensors()")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            names = list(file.keys())
            chosen = [name for name in names if name.startswith(prefix)]
            if prefix and not chosen:
                some = ", ".join(names[:5]) + ", ..." * (len(names) > 5)
                raise ValueError(
                    f"load_safetensors: no name in {path} begins with {prefix!r}; "
                    f"it has {some or 'no arrays'}"
                )
            for name in chosen:
                dtype = file.get_slice(name).get_dtype()
                if dtype not in _DTYPES:
                    raise TypeError(
                        f"load_safetensors: {name} is {_LONG.get(dtype, dtype)}, which NumPy does "
                        f"not have: save it as float32, in PyTorch with tensor.float()"
                    )
            return {name.removeprefix(prefix): file.get_tensor(name) for name in chosen}
    except safetensors.SafetensorError as error:
        raise ValueError(f"load_safetensors: {path} is no safetensors file: {error}") from error


def save_safetensors(state: Mapping[str, Any], path: str | PathLike[str]) -> None:
    """Write arrays to a safetensors file, which PyTorch and others read.

    Parameters
    ----------
    state : mapping of str to array
        The arrays by name, such as ``model.state_dict()``, of any layout.
    path : str or path
        The file, which is replaced if it exists.

    Raises
    ------
    ImportError
        The package safetensors is not installed.
    TypeError
        An array holds something else than numbers or bools.
    """
    safetensors_numpy = require("safetensors.numpy", "save_safetensors()")
    # The package takes for granted that arrays are contiguous.
    arrays = {name: np.asarray(value, order="C") for name, value in state.items()}
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
            raise TypeError(f"save_safetensors: {name} is {array.dtype}, not numbers or bools")
    safetensors_numpy.save_file(arrays, path)
