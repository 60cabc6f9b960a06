"""A fitted perceptron as plain data: arrays, dicts, lists, numbers and texts.

Pickles, and files of skops, which trusts a class only if it is told to, hold nothing else of dlcore
than the estimator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore.callbacks._history import History
from dlcore.nn._architecture import describe_architecture, layers_of
from dlcore.nn._sequential import Sequential
from dlcore.sklearn._optimizers import make_learning_rates, make_optimizer

if TYPE_CHECKING:
    from collections.abc import Mapping


def plain(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of an estimator with plain data in the place of objects of dlcore."""
    written = dict(state) | {"comm": None}  # which is of this process
    model = written["model_"]
    buffers = dict(model._buffers)
    written["model_"] = {**describe_architecture(model), "flat": model.flat, "buffers": buffers}
    for name in ("_optimizer", "_learning_rates", "history_"):
        if name in written and not _is_plain(written[name]):
            written[name] = written[name].state_dict()
    return written


def revived(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes that `plain` was given; the optimizer waits for the next fit."""
    read = dict(state)
    model = read["model_"]
    if not isinstance(model, Sequential):
        read["model_"] = Sequential._of_flat(
            layers_of(model["layers"], {}),
            np.asarray(model["flat"]),
            dict(model["buffers"]),
            set(model["frozen"]),
            model["key"],
        )
    if _is_plain(read.get("history_")):
        history = History()
        history.load_state_dict(history.state_dict() | read["history_"])
        read["history_"] = history
    return read


def revive_optimizer(estimator: Any) -> None:
    """Make the optimizer and its learning rates of plain data, if they are that.

    Not before a fit: until then the parameters may be a map of a file, which nobody can write to.
    """
    own = vars(estimator)
    if not _is_plain(own.get("_optimizer")):
        return
    solver, (rate, _), options = estimator._made_of
    optimizer = make_optimizer(solver, options, estimator.model_, estimator.alpha)
    optimizer.load_state_dict(own["_optimizer"])
    rates = make_learning_rates(rate, optimizer)
    rates.load_state_dict(own["_learning_rates"])
    own["_optimizer"], own["_learning_rates"] = optimizer, rates


def _is_plain(value: Any) -> bool:
    return type(value) is dict
