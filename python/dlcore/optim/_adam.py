"""`Adam` and `AdamW`, one fused call for all parameters: PyTorch's updates exactly.

Largest errors in units in the last place, against a wider reference (where a result is a difference
of terms, in units of the terms); the tests hold them.

======  =======  =======
kernel  float32  float64
======  =======  =======
Adam          4        4
AdamW         4        4
======  =======  =======
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._native import dispatch
from dlcore._native.specs import AdamSpec, AdamState, OptimizerSpec
from dlcore.optim._optimizer import NativeOptimizer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dlcore._common.typing import Array
    from dlcore.optim._optimizer import Params

__all__ = ["Adam", "AdamW"]


class Adam(NativeOptimizer):
    """Adam: adaptive rates from running means of the gradient and of its square.

    Parameters
    ----------
    params : iterable of ndarray, or of dict
        The arrays to update, float32 or float64; or groups of them with options of their own, such
        as ``[{"params": model.parameters("0"), "lr": 1e-4}, {"params": model.parameters("2")}]``.
    lr : float, default 1e-3
    betas : (float, float), default (0.9, 0.999)
        Decay of the mean and of the mean of squares, each at least 0 and less than 1.
    eps : float, default 1e-8
        Added to the root of the mean of squares.
    weight_decay : float, default 0
        Coupled (L2 penalty: ``weight_decay * p`` is added to the gradient), or decoupled.
    amsgrad : bool, default False
        Divide by the largest mean of squares so far.
    maximize : bool, default False
    decoupled_weight_decay : bool, default False
        Multiply parameters by ``1 - lr * weight_decay`` before the update, as in `AdamW`.
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
    Kingma, Ba: Adam: a method for stochastic optimization, ICLR 2015; Reddi, Kale, Kumar: On the
    convergence of Adam and beyond, ICLR 2018; in the form of PyTorch's ``torch.optim.Adam``.
    """

    _ranges = {  # noqa: RUF012
        "lr": (0, np.inf),
        "betas": (0, 1),
        "eps": (0, np.inf),
        "weight_decay": (0, np.inf),
        "l1": (0, np.inf),
    }

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
        l1: float = 0.0,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": tuple(betas),
                "eps": eps,
                "weight_decay": weight_decay,
                "amsgrad": amsgrad,
                "maximize": maximize,
                "decoupled_weight_decay": decoupled_weight_decay,
                "l1": l1,
            },
        )

    @staticmethod
    def _step_values(options: Mapping[str, Any]) -> tuple[Any, ...]:
        names = ("eps", "weight_decay", "decoupled_weight_decay", "maximize", "l1")
        return (options["lr"], *options["betas"], *(options[name] for name in names))

    def _state_names(self, options: Mapping[str, Any]) -> set[str]:
        names = {"step", "exp_avg", "exp_avg_sq"}
        return names | {"max_exp_avg_sq"} if options["amsgrad"] else names

    # Whether eps is added before the bias of the mean of squares is corrected.
    _raw_eps = False

    def _check_options(self, options: Mapping[str, Any]) -> None:
        if len(options["betas"]) != 2:
            raise ValueError(f"{self._name}: betas must be two numbers, got {options['betas']}")
        super()._check_options(options)

    def _spec(self) -> OptimizerSpec:
        groups = (
            AdamSpec(
                lr=options["lr"],
                beta1=options["betas"][0],
                beta2=options["betas"][1],
                eps=options["eps"],
                weight_decay=options["weight_decay"],
                decoupled=options["decoupled_weight_decay"],
                maximize=options["maximize"],
                l1=options["l1"],
                penalty=self._penalty(group),
                raw_eps=self._raw_eps,
            )
            for group, options in enumerate(self._groups)
        )
        return OptimizerSpec(tuple(groups), self._steps)

    def _state_spec(self, state: Mapping[str, list[Array]], i: int) -> AdamState:
        largest = state["max_exp_avg_sq"][i] if "max_exp_avg_sq" in state else None
        return AdamState(state["exp_avg"][i], state["exp_avg_sq"][i], largest)

    def _step_group(
        self,
        params: list[Array],
        grads: list[Array],
        state: dict[str, list[Array]],
        values: tuple[Any, ...],
    ) -> None:
        dispatch.core.adam_step(
            params,
            grads,
            state["exp_avg"],
            state["exp_avg_sq"],
            state.get("max_exp_avg_sq"),
            self._steps + 1,
            *values,
        )


class AdamW(Adam):
    """Adam with decoupled weight decay: parameters are multiplied by ``1 - lr * weight_decay``.

    Parameters
    ----------
    params, lr, betas, eps, amsgrad, maximize, l1
        As in `Adam`.
    weight_decay : float, default 1e-2

    References
    ----------
    Loshchilov, Hutter: Decoupled weight decay regularization, ICLR 2019.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        maximize: bool = False,
        l1: float = 0.0,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            amsgrad=amsgrad,
            maximize=maximize,
            decoupled_weight_decay=True,
            l1=l1,
        )
