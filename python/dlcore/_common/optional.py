"""Libraries that some functions need and the package does not: imported when they are asked for."""

from __future__ import annotations

import sys
from typing import Any

# By the name that is imported: the library's name and the extra that installs it.
_EXTRAS = {
    "cv2": ("OpenCV", "image"),
    "h5py": ("h5py", "keras"),
    "matplotlib": ("matplotlib", "plot"),
    "narwhals": ("Narwhals", "sklearn"),
    "onnx": ("onnx", "onnx"),
    "optuna": ("Optuna", "optuna"),
    "skl2onnx": ("skl2onnx", "onnx"),
    "sklearn": ("scikit-learn", "sklearn"),
    "tensorboardX": ("tensorboardX", "tensorboard"),
    "tqdm": ("tqdm", "progress"),
}


def install_line(module: str) -> str:
    """Return the command that installs what a module belongs to."""
    return f"pip install 'dlcore-kernels[{_EXTRAS[module.partition('.')[0]][1]}]'"


def require(module: str, needed_by: str, purpose: str = "") -> Any:
    """Import a module of an optional library.

    Parameters
    ----------
    module : str
        Such as "matplotlib.figure".
    needed_by : str
        The function that needs it, for the message,
    purpose : str
        and what for.

    Raises
    ------
    ImportError
        The library is not installed; the message has the line that installs it.
    """
    found = find(module)
    if found is None:
        library = _EXTRAS[module.partition(".")[0]][0]
        what_for = f" for {purpose}" if purpose else ""
        raise ImportError(f"{needed_by} needs {library}{what_for}: {install_line(module)}")
    return found


def find(module: str) -> Any:
    """Import a module of an optional library; None where it is not installed."""
    try:
        __import__(module)
    except ImportError:
        return None
    return sys.modules[module]
