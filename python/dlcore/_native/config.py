"""What this installation is."""

from __future__ import annotations

import platform

import numpy as np

from dlcore._native import dispatch
from dlcore._native import threads as parallel


def show_config() -> None:
    """Print versions, compiler, instruction set and threads, as a bug report wants them.

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
    """
    core = dispatch.core
    default, source = parallel.default_num_threads()
    threads = parallel.get_num_threads()
    if threads != default:
        source = "set_num_threads"
    rows = {
        "dlcore": core.version,
        "Python": f"{platform.python_version()} ({platform.python_implementation()}, "
        f"{platform.system()} {platform.machine()})",
        "NumPy": np.__version__,
        "compiler": core.compiler,
        "instruction set": f"{core.isa} ({core.register_bytes}-byte registers), "
        f"of {', '.join(dispatch.available_isas())}",
        "threads": f"{threads} ({source})",
        "OpenMP": "yes" if core.openmp else "no: kernels run on one thread",
    }
    for name, value in rows.items():
        print(f"{name:<15}  {value}")
