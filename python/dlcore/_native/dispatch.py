"""The choice among the extension modules, one for each instruction-set level.

`core` is the module in use. Functions look it up when they are called.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dlcore._native import _cpu

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from dlcore._native import _core as core

__all__ = ["available_isas", "core", "isa", "load"]

# Best first: name of the level -> name of its extension module.
_LEVELS = {
    "x86-64-v4": "_core_x86_64_v4",
    "x86-64-v3": "_core_x86_64_v3",
    "x86-64": "_core_x86_64",
    "aarch64": "_core_aarch64",
    "generic": "_core_generic",
}


def _is_built(isa: str) -> bool:
    # The extension modules lie beside this file; finding one does not load it.
    return importlib.util.find_spec(f"{__package__}.{_LEVELS[isa]}") is not None


def available_isas() -> list[str]:
    """Instruction-set levels that this package was built for and this machine runs, best first.

    Returns
    -------
    list of str
        Names as in the x86-64 psABI, such as ``["x86-64-v4", "x86-64-v3", "x86-64"]``, or
        ``["aarch64"]``.
    """
    return [isa for isa in _LEVELS if _cpu.supports(isa) and _is_built(isa)]


def isa() -> str:
    """Return the name of the instruction-set level in use.

    It is the first of `available_isas`, unless the environment variable ``DLCORE_ISA`` named
    another when dlcore was imported.
    """
    return core.isa


@contextmanager
def _short_spins() -> Iterator[None]:
    """Let libgomp's threads spin for some 10 microseconds, not milliseconds, before they sleep.

    Threads that spin through their whole time slice stall everything else on a busy machine.
    libgomp reads the variable when it is loaded; a setting of the user's own stays.
    """
    if "GOMP_SPINCOUNT" in os.environ or "OMP_WAIT_POLICY" in os.environ:
        yield
        return
    os.environ["GOMP_SPINCOUNT"] = "10000"
    try:
        yield
    finally:
        del os.environ["GOMP_SPINCOUNT"]


def load(isa: str) -> ModuleType:
    """Import the extension module of a level, one of `available_isas`."""
    with _short_spins():
        return importlib.import_module(f".{_LEVELS[isa]}", __package__)


def pyinstaller_hooks() -> list[str]:
    """Return the folder of the hook by which PyInstaller finds the extension modules."""
    return [str(Path(__file__).parent)]


def _choose() -> str:
    wanted = os.environ.get("DLCORE_ISA")
    available = available_isas()
    if not wanted:
        if not available:
            raise ImportError("dlcore was built for no instruction set that this machine runs")
        return available[0]
    if wanted in available:
        return wanted
    raise ImportError(
        f"DLCORE_ISA={wanted!r} is not an instruction set that this machine and this build of "
        f"dlcore support; available: {', '.join(available)}"
    )


if not TYPE_CHECKING:
    core = load(_choose())
