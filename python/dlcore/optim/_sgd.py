"""`SGD`, one fused call for all parameters: PyTorch's update exactly.

Largest errors in units in the last place, against a wider reference (where a result is a difference
of terms, in units of the terms); the tests hold them.

======  =======  =======
kernel  float32  float64
======  =======  =======
SGD           4        4
======  =======  =======
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._common.arrays import as_stored
from dlcore._native import dispatch
from dlcore._native.specs import SGDSpec, SGDState
from dlcore.optim._groups import option
from dlcore.optim._optimizer import NativeOptimizer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dlcore.optim._groups import Cohort
    from dlcore.optim._optimizer import Params

__all__ = ["SGD"]


class SGD(NativeOptimizer):
    """Stochastic gradient descent, with momentum.

    Parameters
    ----------
    params : iterable of ndarray, or of dict
        The arrays to update, float32 or float64; or groups of them with options of their own, such
        as ``[{"params": model.parameters("0"), "lr": 1e-4}, {"params": model.parameters("2")}]``.
    lr : float, default 1e-3
    momentum : float, default 0
    dampening : float, default 0
        The gradient enters the momentum times ``1 - dampening``, but for the first step.
    weight_decay : float, default 0
        L2 penalty: ``weight_decay * p`` is added to the gradient.
    nesterov : bool, default False
    maximize : bool, default False
    l1 : float, default 0.0
        L1 penalty as a proximal step after the update, ``sign(p) * max(|p| - lr * l1, 0)``, which
        makes parameters exactly 0.

    Raises
    ------
    ValueError
        If an option is out of range, parameters share memory, or one is read-only.
    TypeError
        If a parameter is no array of float32 or float64.

    References
    ----------
    Sutskever et al.: On the importance of initialization and momentum in deep learning, ICML 2013;
    in the form of PyTorch's ``torch.optim.SGD``.
    """

    momentum: float = option()
    dampening: float = option()
    weight_decay: float = option()
    nesterov: bool = option()
    maximize: bool = option()
    l1: float = option()

    state_names = ("momentum_buffer",)
    _optional_state = frozenset({"momentum_buffer"})
    _saves_step = False  # as in PyTorch, whose SGD counts none
    _ranges = {  # noqa: RUF012
        "lr": (0, np.inf),
        "momentum": (0, np.inf),
        "dampening": (-np.inf, np.inf),
        "weight_decay": (0, np.inf),
        "l1": (0, np.inf),
    }
    _flags = ("nesterov", "maximize")

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        *,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        maximize: bool = False,
        l1: float = 0.0,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
                "maximize": maximize,
                "l1": l1,
            },
        )

    @classmethod
    def _check_options(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        checked = super()._check_options(options)
        if checked["nesterov"] and (checked["momentum"] <= 0 or checked["dampening"] != 0):
            raise ValueError(
                f"{cls.__name__}: nesterov needs a momentum greater than 0 and no dampening"
            )
        return checked

    @staticmethod
    def _step_values(options: Mapping[str, Any]) -> tuple[Any, ...]:
        names = ("lr", "momentum", "dampening", "weight_decay", "l1", "nesterov", "maximize")
        return tuple(options[name] for name in names)

    def _state_names(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        return self.state_names if options["momentum"] else ()

    def _spec(self, cohort: Cohort) -> SGDSpec:
        return SGDSpec(
            **cohort.group.options(),
            penalty=self._penalty(cohort.number),
            is_first=bool(cohort.fresh),
        )

    def _state_spec(self, cohort: Cohort, j: int) -> SGDState:
        return SGDState(as_stored(cohort.taken[0][j]) if cohort.taken else None)

    def _update(self, grads: list[Any], cohorts: Sequence[Cohort]) -> bool:
        return dispatch.core.sgd_step(grads, self._parts(cohorts))
