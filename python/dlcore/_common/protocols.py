"""What a room needs of the things that rooms above it make.

A part that must know of a higher floor says here what it asks of it, instead of importing it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    import numpy as np

    from dlcore._common.typing import Array

# What a metric becomes: (y_true, outputs, weights of the rows or None) -> value.
Metric: TypeAlias = "Callable[[Array, Array, Array | None], float]"


class Model(Protocol):
    """What trains; `dlcore.Sequential` is one."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the parameters, of x and of the outputs."""

    @property
    def layers(self) -> tuple[Any, ...]:
        """The layers, in order."""

    @property
    def flat(self) -> Array:
        """All parameters in one 1-D array."""

    @property
    def in_features(self) -> int | None:
        """Features of x; None if any number will do."""

    @property
    def out_features(self) -> int | None:
        """Features of the outputs; None if as many as those of x."""

    @property
    def frozen(self) -> frozenset[str]:
        """Names of the parameters and running statistics that training leaves as they are."""

    def named_parameters(self) -> dict[str, Array]:
        """Return the parameters themselves by name."""

    def state_dict(self) -> dict[str, Array]:
        """Copy the parameters and running statistics."""

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Take over parameters and running statistics."""

    def _in_training(self) -> AbstractContextManager[None]:
        """Keep others from training the model, and other threads from using it, meanwhile."""

    def _split(self, flat: Array) -> dict[str, Array]:
        """Split an array laid out as ``flat`` into a view for each parameter, by name."""

    def _make_writeable(self) -> None:
        """Copy arrays that cannot be written."""


class OwnerOfLayers(Protocol):
    """The model that layers are part of; `dlcore.Sequential` is one."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of its arrays."""

    def _describe_anew(self) -> None:
        """Let go of what inference was described by."""

    def _make_writeable(self) -> None:
        """Copy arrays that cannot be written."""


class Loss(Protocol):
    """What a metric needs of a loss; `dlcore.Loss` is the class."""

    def classes(self, width: int) -> int | None:
        """Return the number of classes for outputs of shape (N, width); None without classes."""

    def counted(self, y: Array) -> Array:
        """Which rows count at all."""

    def predicted(self, outputs: Array) -> Array:
        """Return the values that the outputs predict."""

    def target_metrics(self) -> dict[str, Metric]:
        """Return the metrics that the loss itself logs."""


class Optimizer(Protocol):
    """What updates parameters; `dlcore.Adam` is one, and one of the user's own may be."""

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""

    @lr.setter
    def lr(self, value: float) -> None:
        """Set it."""

    def step(self, grads: Sequence[Any]) -> None:
        """Update the parameters in place."""


class Run(Protocol):
    """The fit that a callback sees."""

    @property
    def model(self) -> Model:
        """The model that is trained."""

    @property
    def optimizer(self) -> Optimizer:
        """What updates its parameters."""

    @property
    def history(self) -> Any:
        """The `History` so far."""

    @property
    def log_names(self) -> list[str]:
        """What each epoch logs."""

    @property
    def active_callbacks(self) -> Sequence[Any]:
        """All callbacks of this fit."""

    @property
    def first_epoch(self) -> int:
        """The epoch that the fit begins with."""

    @property
    def _reports(self) -> bool:
        """Whether files are written and progress is shown here, of several ranks on one."""

    def stop(self, reason: str) -> None:
        """End the fit after this epoch."""

    def training_inputs(self) -> Iterator[Array]:
        """Give x of the rows that the fit trains on, some at a time."""


class Logs(Protocol):
    """The logs of a fit, a list for each name; `dlcore.History` is one."""

    iterations: dict[str, list[float]]

    def __contains__(self, name: object, /) -> bool:
        """Whether there are logs of this name."""

    def __getitem__(self, name: str, /) -> list[float]:
        """Return the value of each epoch."""

    def get(self, name: str, default: Any, /) -> Any:
        """Return the value of each epoch, or the default if there are none."""

    def epochs_of(self, name: str) -> list[int]:
        """Return the index of the epoch that each value of a log belongs to."""
