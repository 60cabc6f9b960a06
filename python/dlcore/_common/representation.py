"""How objects show what they were made with: as a call that could be typed in."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping


def shown_call(obj: object, changed: Mapping[str, Any] | None = None) -> str:
    """Return the call of an object's class that makes one like it, without what is by default.

    An argument is the attribute of its name, or what ``changed`` has under it. A class of the user's
    own that keeps an argument elsewhere is shown as Python does.
    """
    kind = type(obj)
    arguments = []
    for parameter in inspect.signature(kind).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        name = parameter.name
        if changed is not None and name in changed:
            value = changed[name]
        elif hasattr(obj, name):
            value = getattr(obj, name)
        else:
            return object.__repr__(obj)
        if not _is_default(value, parameter.default):
            arguments.append(f"{name}={shown(value)}")
    return f"{kind.__name__}({', '.join(arguments)})"


def shown(value: Any) -> str:
    """Return the text of an argument: arrays as lists, functions by their names."""
    if isinstance(value, np.ndarray | np.generic):
        return repr(value.tolist())
    if isinstance(value, list):
        return f"[{', '.join(map(shown, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {shown(own)}" for key, own in value.items()) + "}"
    if inspect.isroutine(value):
        name: str = value.__name__
        return name
    return repr(value)


def _is_default(value: Any, default: Any) -> bool:
    if value is default:
        return True
    if default is inspect.Parameter.empty or (isinstance(value, np.ndarray) and value.ndim):
        return False
    return bool(type(value) in (bool, int, float, str, np.ndarray) and value == default)
