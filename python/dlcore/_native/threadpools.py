"""dlcore's threads as threadpoolctl sees and limits them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from dlcore._native import dispatch, threads

if TYPE_CHECKING:
    from types import ModuleType


def register(threadpoolctl: ModuleType | None = None) -> None:
    """Let threadpoolctl limit the threads of the whole process, if it is in use.

    Without it, a limit holds for the regions of the Python thread that sets it: there libgomp, which
    threadpoolctl knows, keeps a number for each thread.

    Parameters
    ----------
    threadpoolctl : module, optional
        By default the one that is loaded, if there is one.
    """
    module = threadpoolctl or sys.modules.get("threadpoolctl")
    if module is None or not hasattr(module, "register"):
        return

    def set_num_threads(_: Any, n: int) -> None:
        # The default is no number of the user's own.
        is_default = n == threads.default_num_threads()[0]
        dispatch.core.set_num_threads(0 if is_default else n)

    module.register(
        type(
            "DlcoreController",
            (module.LibController,),
            {
                "user_api": "openmp",
                "internal_api": "dlcore",
                "filename_prefixes": ("_core_",),
                "check_symbols": (f"PyInit_{dispatch.core.__name__.rpartition('.')[2]}",),
                "get_num_threads": lambda _: threads.num_threads_of_process(),
                "set_num_threads": set_num_threads,
                "get_version": lambda _: dispatch.core.version,
            },
        )
    )
