"""What the versions of scikit-learn differ in, as far as the estimators depend on it."""

from __future__ import annotations

from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from dlcore._common.optional import install_line, require

if TYPE_CHECKING:
    from collections.abc import Iterator

_OLDEST = "1.6"


def check_versions() -> None:
    """Raise an ImportError if scikit-learn is not there or too old, or if Narwhals is not there."""
    if find_spec("sklearn") is not None:  # which without Narwhals cannot be imported from 1.9 on
        require("narwhals.stable.v2", "dlcore.sklearn")
    found = require("sklearn", "dlcore.sklearn").__version__
    if _numbers(found) < _numbers(_OLDEST):
        raise ImportError(
            f"dlcore.sklearn needs scikit-learn {_OLDEST} or later, found {found}: "
            f"{install_line('sklearn')}"
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")[:2]))


def losses_of(kind: Any) -> tuple[str, ...]:
    """Return the losses that a perceptron of scikit-learn may have.

    `MLPRegressor` has a choice from 1.7 on.
    """
    constraints = kind._parameter_constraints.get("loss")
    return (kind().loss,) if constraints is None else tuple(constraints[0].options)


@contextmanager
def telling_callbacks(estimator: Any, X: Any, y: Any) -> Iterator[None]:
    """Tell an estimator's callbacks, which scikit-learn has from 1.9 on, of a fit of these rows."""
    if not hasattr(estimator, "_init_callback_context"):
        yield
        return
    context = estimator._init_callback_context()
    task = {"estimator": estimator, "X": X, "y": y, "metadata": {"sample_weight": None}}
    context.call_on_fit_task_begin(**task)
    yield
    context.call_on_fit_task_end(**task, reconstruction_attributes={})
