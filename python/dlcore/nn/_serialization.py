"""Arrays in safetensors files, which PyTorch and others read and write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._common import safetensors

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike

    from dlcore._common.typing import Array

__all__ = ["load_safetensors", "save_safetensors"]


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
    names: list[str] = []

    def is_wanted(name: str) -> bool:
        names.append(name)
        return name.startswith(prefix)

    arrays, _ = safetensors.read(path, is_wanted)
    if prefix and not arrays:
        some = ", ".join(sorted(names)[:5]) + ", ..." * (len(names) > 5)
        raise ValueError(
            f"load_safetensors: no name in {path} begins with {prefix!r}; "
            f"it has {some or 'no arrays'}"
        )
    return {name.removeprefix(prefix): array for name, array in arrays.items()}


def save_safetensors(state: Mapping[str, Any], path: str | PathLike[str]) -> None:
    """Write arrays to a safetensors file, which PyTorch and others read.

    Parameters
    ----------
    state : mapping of str to array
        The arrays by name, such as ``model.state_dict()``, of any layout.
    path : str or path
        The file, which is replaced if it exists, once the new one is on the disk.

    Raises
    ------
    TypeError
        An array holds something else than numbers or bools.
    OSError
        The file cannot be written; what was there before is as it was.
    """
    arrays = {name: np.asarray(value) for name, value in state.items()}
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf" or not safetensors.has_name(array.dtype):
            raise TypeError(f"save_safetensors: {name} is {array.dtype}, not numbers or bools")
    safetensors.write(path, arrays, {})
