"""A fast, exact deep-learning core for NumPy arrays on the CPU."""

from dlcore import (
    callbacks,
    diagnostics,
    export,
    functional,
    information,
    init,
    many,
    nn,
    optim,
    preprocessing,
    reference,
    saving,
    training,
)
from dlcore._native import threadpools
from dlcore._native.config import show_config
from dlcore._native.denormals import flush_denormals
from dlcore._native.dispatch import available_isas, isa
from dlcore._native.dispatch import core as _core
from dlcore._native.threads import get_num_threads, num_threads, set_num_threads
from dlcore.callbacks import *
from dlcore.diagnostics import *
from dlcore.export import *
from dlcore.functional import *
from dlcore.many import *
from dlcore.nn import *
from dlcore.optim import *
from dlcore.preprocessing import *
from dlcore.saving import *
from dlcore.training import *

__version__: str = _core.version

threadpools.register()

__all__ = [
    "__version__",
    "available_isas",
    "flush_denormals",
    "get_num_threads",
    "information",
    "init",
    "isa",
    "num_threads",
    "reference",
    "set_num_threads",
    "show_config",
]
__all__ += callbacks.__all__
__all__ += diagnostics.__all__
__all__ += export.__all__
__all__ += functional.__all__
__all__ += many.__all__
__all__ += nn.__all__
__all__ += optim.__all__
__all__ += preprocessing.__all__
__all__ += saving.__all__
__all__ += training.__all__


def __dir__() -> list[str]:
    """List the public names alone: rooms are how they are made, and no names of their own."""
    return sorted(__all__)
