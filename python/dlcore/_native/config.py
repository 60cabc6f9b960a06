"""What this installation is."""

from __future__ import annotations

import platform
import sys
from typing import Any, Literal, overload

import numpy as np

from dlcore._native import dispatch, threads


@overload
def show_config(mode: Literal["stdout"] = ...) -> None: ...
@overload
def show_config(mode: Literal["dicts"]) -> dict[str, Any]: ...
def show_config(mode: Literal["stdout", "dicts"] = "stdout") -> dict[str, Any] | None:
    """Print versions, compiler, instruction set and threads, as a bug report wants them.

    Parameters
    ----------
    mode : {"stdout", "dicts"}
        Whether to print them or to return them for a program, as in `numpy.show_config`.

    Returns
    -------
    dict or None
        None where they are printed, else a dict of text, numbers, lists and dicts of them, which
        `json` can write.

    Raises
    ------
    ValueError
        `mode` is neither.

    Examples
    --------
    >>> import dlcore as dl
    >>> dl.show_config()  # doctest: +SKIP
    dlcore           0.1.0
    Python           3.11.7 (CPython, Linux x86_64)
    NumPy            2.4.6
    compiler         GCC 12.2.0
    instruction set  x86-64-v4 (64-byte registers), of x86-64-v4, x86-64-v3, x86-64
    threads          2 (cores that this process may use)
    OpenMP           yes
    >>> dl.show_config("dicts")["threads"]  # doctest: +SKIP
    {'number': 2, 'source': 'cores that this process may use', 'limit': None}
    """
    if mode not in ("stdout", "dicts"):
        raise ValueError(f"show_config: mode must be 'stdout' or 'dicts', got {mode!r}")
    config = _config()
    if mode == "dicts":
        return config
    if sys.stdout is not None:  # as in programs without a console
        _show(config)
    return None


def _config() -> dict[str, Any]:
    core = dispatch.core
    return {
        "dlcore": core.version,
        "Python": {
            "version": platform.python_version(),
            "implementation": platform.python_implementation(),
            "system": platform.system(),
            "machine": platform.machine(),
        },
        "NumPy": np.__version__,
        "compiler": core.compiler.strip(),  # of Clang some versions end with a blank
        "instruction set": {
            "name": core.isa,
            "register bytes": core.register_bytes,
            "available": dispatch.available_isas(),
            "reproducible": dispatch.reproducible,
        },
        "threads": {
            "number": threads.get_num_threads(),
            "source": threads.source_of_num_threads(),
            "limit": core.thread_limit() or None,
        },
        "OpenMP": core.openmp,
    }


def _show(config: dict[str, Any]) -> None:
    python, isa, of_threads = config["Python"], config["instruction set"], config["threads"]
    limit = f", OMP_THREAD_LIMIT={of_threads['limit']}" if of_threads["limit"] else ""
    rows = config | {
        "Python": f"{python['version']} ({python['implementation']}, "
        f"{python['system']} {python['machine']})",
        "instruction set": f"{isa['name']} ({isa['register bytes']}-byte registers), "
        f"of {', '.join(isa['available'])}"
        f"{'; the same bits as on other processors' if isa['reproducible'] else ''}",
        "threads": f"{of_threads['number']} ({of_threads['source']}{limit})",
        "OpenMP": "yes" if config["OpenMP"] else "no: kernels run on one thread",
    }
    for name, value in rows.items():
        print(f"{name:<15}  {value}")
