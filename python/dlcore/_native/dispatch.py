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
# Levels that give the same bits, best first: DLCORE_REPRODUCIBLE=1 chooses among them, and what each
# stands in for where DLCORE_ISA names a level.
_REPRODUCIBLE = {
    "x86-64-v3": ("x86-64-v3", "x86-64-v4"),
    "x86-64-reproducible": ("x86-64-reproducible", "x86-64"),
    "aarch64-reproducible": ("aarch64-reproducible", "aarch64"),
}


def _is_there(isa: str) -> bool:
    """Whether a level was built and runs here."""
    # The extension modules lie beside this file; finding one does not load it.
    is_built = importlib.util.find_spec(f"{__package__}.{_module_of(isa)}") is not None
    return is_built and _cpu.supports(isa)


def _module_of(isa: str) -> str:
    return _LEVELS.get(isa, f"_core_{isa.replace('-', '_')}")


def available_isas() -> list[str]:
    """Instruction-set levels that this package was built for and this machine runs, best first.

    Returns
    -------
    list of str
        Names as in the x86-64 psABI, such as ``["x86-64-v4", "x86-64-v3", "x86-64"]``, or
        ``["aarch64"]``.
    """
    return [isa for isa in _LEVELS if _is_there(isa)]


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
        return importlib.import_module(f".{_module_of(isa)}", __package__)


def pyinstaller_hooks() -> list[str]:
    """Return the folder of the hook by which PyInstaller finds the extension modules."""
    return [str(Path(__file__).parent)]


def _wants_reproducible() -> bool:
    """Whether ``DLCORE_REPRODUCIBLE`` asks for the same bits on all processors."""
    setting = os.environ.get("DLCORE_REPRODUCIBLE", "")
    if setting not in ("", "0", "1"):
        raise ImportError(f"DLCORE_REPRODUCIBLE must be 1, 0 or empty, not {setting!r}")
    return setting == "1"


def _choose() -> str:
    wanted = os.environ.get("DLCORE_ISA")
    if reproducible:
        return _choose_reproducible(wanted)
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


def _choose_reproducible(wanted: str | None) -> str:
    for isa, names in _REPRODUCIBLE.items():
        if _is_there(isa) and (not wanted or wanted in names):
            return isa
    what = f" with DLCORE_ISA={wanted!r}" if wanted else ""
    raise ImportError(
        f"DLCORE_REPRODUCIBLE=1{what} needs a level that this build of dlcore does not have or this "
        f"machine does not run, one of {', '.join(_REPRODUCIBLE)}: without AVX2, build dlcore with "
        f"CMake's DLCORE_LEVELS=x86-64-reproducible"
    )


# As it was asked for when dlcore was imported.
reproducible = _wants_reproducible()
if not TYPE_CHECKING:
    core = load(_choose())
