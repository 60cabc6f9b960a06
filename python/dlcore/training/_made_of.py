"""What a trainer is made of, as plain data in the files of its states, and trainers made of that.

Functions and objects of classes of one's own have no form in a file that runs no code: they are
left out, and whoever reads the file hands them over.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore.nn import _architecture, _losses
from dlcore.optim import _schedules
from dlcore.optim._adam import Adam, AdamW
from dlcore.optim._sgd import SGD
from dlcore.training._step import trained_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from dlcore.nn._sequential import Sequential

_OPTIMIZERS = {kind.__name__: kind for kind in (SGD, Adam, AdamW)}
_KNOWN: dict[str, type[Any]] = {
    item.__name__: item
    for module, base in ((_schedules, _schedules.Schedule), (_losses, _losses.Loss))
    for item in vars(module).values()
    if inspect.isclass(item) and issubclass(item, base) and item is not base
}


def describe(trainer: Any) -> dict[str, Any]:
    """Return what a trainer is made of; None in the place of what has no form in a file."""
    optimizer, kind = trainer.optimizer, type(trainer.optimizer)
    is_known = _OPTIMIZERS.get(kind.__name__) is kind
    names = iter(trained_names(trainer.model, optimizer)) if is_known else iter(())
    return {
        "model": _architecture.describe_architecture(trainer.model),
        "loss": described(trainer.loss),
        "optimizer": {
            "kind": kind.__name__,
            "groups": [[next(names) for _ in g["params"]] for g in optimizer.param_groups],
        }
        if is_known
        else None,
        "schedule": described(trainer.schedule),
        "has_schedule": trainer.schedule is not None,
        "metrics": described(trainer.metrics),
        "has_metrics": trainer.metrics is not None,
        "seed": trainer._seed,
    }


def rebuilt(
    make: Callable[..., Any],
    made_of: Mapping[str, Any],
    arrays: Mapping[str, Any],
    classes: Iterable[type],
    path: str,
    given: Mapping[str, Any],
) -> Any:
    """Make a trainer of what one was made of, and of what is handed over in the place of parts.

    Raises a ValueError that names what has to be handed over.
    """

    def part(name: str, is_there: bool = True) -> Any:
        if given[name] is not None or not is_there:
            return given[name]
        if made_of[name] is None:
            raise ValueError(
                f"Trainer.load: {path} has no form for the {name}, of functions or a class of your "
                f"own: hand it over, Trainer.load(path, {name}=...)"
            )
        return made_of[name] if name == "optimizer" else made(made_of[name], path)

    options = {
        "loss": part("loss"),
        "metrics": part("metrics", made_of["has_metrics"]),
        "schedule": part("schedule", made_of["has_schedule"]),
        "callbacks": given["callbacks"],
        "seed": made_of["seed"],
    }
    optimizer = part("optimizer")
    own = {kind.__name__: kind for kind in classes}
    model = _architecture.make_model(made_of["model"], arrays, own)
    if isinstance(optimizer, dict):
        optimizer = _optimizer(model, optimizer, path)
    elif callable(optimizer) and not hasattr(optimizer, "step"):
        optimizer = optimizer(model)
    return make(model, optimizer=optimizer, **options)


def _optimizer(model: Sequential, described: Mapping[str, Any], path: str) -> Any:
    kind = _OPTIMIZERS.get(described["kind"])
    parameters = model.named_parameters()
    if kind is None or any(
        name not in parameters for group in described["groups"] for name in group
    ):
        raise ValueError(f"{path}: there is no optimizer {described!r:.100} of its model")
    return kind([{"params": [parameters[n] for n in group]} for group in described["groups"]])


def described(value: Any) -> Any:
    """Return a loss or a schedule, and what is made of them, as plain data; None if it has no form."""
    try:
        return _plain(value)
    except TypeError:
        return None


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str | np.ndarray | np.generic):
        return value
    if isinstance(value, list | tuple):
        return type(value)(map(_plain, value))
    if isinstance(value, dict):
        return {"dict": {name: _plain(own) for name, own in value.items()}}
    kind = type(value)
    if _KNOWN.get(kind.__name__) is not kind:
        raise TypeError(kind.__name__)
    names = inspect.signature(kind).parameters
    if not all(hasattr(value, name) for name in names):
        raise TypeError(kind.__name__)
    return {"class": kind.__name__, "options": {n: _plain(getattr(value, n)) for n in names}}


def made(value: Any, path: str) -> Any:
    """Make what `described` was given."""
    if isinstance(value, list | tuple):
        return type(value)(made(own, path) for own in value)
    if not isinstance(value, dict):
        return value
    if value.keys() == {"dict"}:
        return {name: made(own, path) for name, own in value["dict"].items()}
    kind = _KNOWN.get(value.get("class", ""))
    if kind is None or value.keys() != {"class", "options"}:
        raise ValueError(f"{path} has {value!r:.100}, which this version does not have")
    try:
        return kind(**{name: made(own, path) for name, own in value["options"].items()})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} has a {kind.__name__} with wrong options: {error}") from None
