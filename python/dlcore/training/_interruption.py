"""How the threads of many fits at once are stopped: Ctrl-C comes to the main thread alone."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class _Own(threading.local):
    look: Callable[[], None] | None = None


_own = _Own()


def look_up() -> None:
    """Let the thread that this one works for interrupt it, between two operations."""
    if _own.look is not None:
        _own.look()


def be_interrupted_by(look: Callable[[], None] | None) -> None:
    """Have ``look()`` called now and then in this thread; what it raises ends the fit."""
    _own.look = look
