"""The objects that files may hold, by the names of their classes."""

from __future__ import annotations

import sys
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from dlcore._common.optional import require
from dlcore.many._ensemble import Ensemble, describe_ensemble, ensemble_of
from dlcore.nn._architecture import describe_model, model_of
from dlcore.nn._sequential import Sequential
from dlcore.optim import _schedules
from dlcore.preprocessing._state import NORMALIZERS, describe_normalizer, normalizer_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dlcore.optim._schedules import Schedule

_SCHEDULES: dict[str, type[Schedule]] = {
    name: getattr(_schedules, name) for name in _schedules.__all__ if name != "Schedule"
}


def describe(value: Any) -> tuple[str, Any] | None:
    """Return the name of an object's class and its state as plain data; None for other objects."""
    kind = type(value)
    if kind is Sequential:
        return kind.__name__, describe_model(value)
    if isinstance(value, Sequential):
        raise TypeError(
            f"{kind.__name__} is a subclass of Sequential, of which a file has no form: "
            f"model[:] is the Sequential of its layers"
        )
    if kind is Ensemble:
        return kind.__name__, describe_ensemble(value)
    if NORMALIZERS.get(kind.__name__) is kind:
        return kind.__name__, describe_normalizer(value)
    if _SCHEDULES.get(kind.__name__) is kind:
        return kind.__name__, {own.name: getattr(value, own.name) for own in fields(value)}
    if "sklearn" not in sys.modules:  # then it is none of its objects
        return None
    from dlcore.saving import _estimators

    return _estimators.describe(value)


def is_estimator(value: Any) -> bool:
    """Whether an object is an estimator that a file may hold."""
    if "sklearn" not in sys.modules:
        return False
    from dlcore.saving import _estimators

    return isinstance(value, tuple(_estimators.ESTIMATORS.values()))


class Maker:
    """Makes objects of the names of their classes and their states, which are checked.

    Parameters
    ----------
    classes : iterable of class
        Classes of the user's own.
    """

    def __init__(self, classes: Iterable[type]) -> None:
        self._classes = {}
        for kind in classes:
            if not isinstance(kind, type):
                raise TypeError(f"classes must hold classes, not {kind!r}")
            self._classes[kind.__name__] = kind

    def __call__(self, name: str, state: Any) -> Any:
        """Make an object."""
        if name == "Sequential":
            if not isinstance(state, dict):
                raise TypeError(f"the state of a model is a {type(state).__name__}")
            return model_of(state, self._classes)
        if name == "Ensemble":
            return ensemble_of(state)
        if name in NORMALIZERS:
            return normalizer_of(name, state)
        if name in _SCHEDULES:
            kind = _SCHEDULES[name]
            if not isinstance(state, dict) or state.keys() != {own.name for own in fields(kind)}:
                raise TypeError(f"a {name} has the options {state!r:.50}")
            return kind(**state)
        require("sklearn", "load()", f"a {name:.50}")
        from dlcore.saving import _estimators

        return _estimators.make(name, state, self._classes)
