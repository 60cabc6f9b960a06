"""`SGD`, one fused call for all parameters: PyTorch's update exactly.

Largest errors in units in the last place, against a wider reference (where a result is a difference
of terms, in units of the terms); the tests hold them.

======  =======  =======
kernel  float32  float64
======  =======  =======
SGD           3        3
======  =======  =======
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._native import dispatch
from dlcore._native.specs import OptimizerSpec, SGDSpec, SGDState
from dlcore.optim._optimizer import NativeOptimizer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dlcore._common.typing import Array
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

    _ranges = {  # noqa: RUF012
        "lr": (0, np.inf),
        "momentum": (0, np.inf),
        "weight_decay": (0, np.inf),
        "l1": (0, np.inf),
    }

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

    @staticmethod
    def _step_values(options: Mapping[str, Any]) -> tuple[Any, ...]:
        names = ("lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize", "l1")
        return tuple(options[name] for name in names)

    def _state_names(self, options: Mapping[str, Any]) -> set[str]:
        return {"momentum_buffer"} if options["momentum"] else set()

    def _check_options(self, options: Mapping[str, Any]) -> None:
        super()._check_options(options)
        if options["nesterov"] and (options["momentum"] <= 0 or options["dampening"] != 0):
            raise ValueError("SGD: nesterov needs a momentum greater than 0 and no dampening")

    def _spec(self) -> OptimizerSpec:
        groups = (
            SGDSpec(**options, penalty=self._penalty(group), is_first=not self._state)
            for group, options in enumerate(self._groups)
        )
        return OptimizerSpec(tuple(groups), self._steps)

    def _state_spec(self, state: Mapping[str, list[Array]], i: int) -> SGDState:
        return SGDState(state["momentum_buffer"][i] if "momentum_buffer" in state else None)

    def _step_group(
        self,
        params: list[Array],
        grads: list[Array],
        state: dict[str, list[Array]],
        values: tuple[Any, ...],
    ) -> None:
        buffers = state.get("momentum_buffer")
        dispatch.core.sgd_step(params, grads, buffers, not self._state, *values)
