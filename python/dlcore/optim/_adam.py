"""`Adam` and `AdamW`, one fused call for all parameters: PyTorch's updates exactly.

Largest errors in units in the last place, against a wider reference (where a result is a difference
of terms, in units of the terms); the tests hold them.

======  =======  =======
kernel  float32  float64
======  =======  =======
Adam          5        5
AdamW         5        5
======  =======  =======
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._common.arrays import as_stored
from dlcore._native import dispatch
from dlcore._native.specs import AdamSpec, AdamState
from dlcore.optim._groups import option
from dlcore.optim._optimizer import NativeOptimizer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dlcore.optim._groups import Cohort
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

    betas: tuple[float, float] = option()
    eps: float = option()
    weight_decay: float = option()
    amsgrad: bool = option()
    maximize: bool = option()
    decoupled_weight_decay: bool = option()
    l1: float = option()

    state_names = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")
    _optional_state = frozenset({"max_exp_avg_sq"})
    _squares = frozenset({"exp_avg_sq", "max_exp_avg_sq"})
    _ranges = {  # noqa: RUF012
        "lr": (0, np.inf),
        "eps": (0, np.inf),
        "weight_decay": (0, np.inf),
        "l1": (0, np.inf),
    }
    _flags = ("amsgrad", "maximize", "decoupled_weight_decay")
    # Whether eps is added before the bias of the mean of squares is corrected.
    _raw_eps = False

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
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "amsgrad": amsgrad,
                "maximize": maximize,
                "decoupled_weight_decay": decoupled_weight_decay,
                "l1": l1,
            },
        )

    @classmethod
    def _check_options(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        checked, betas = super()._check_options(options), options["betas"]
        try:
            is_pair = not isinstance(betas, str) and np.shape(betas) == (2,)
        except ValueError:  # lists of several lengths
            is_pair = False
        if not is_pair:
            raise ValueError(f"{cls.__name__}: betas must be two numbers, got {betas!r}")
        checked["betas"] = tuple(cls._number("betas", beta, 0, 1, betas) for beta in betas)
        return checked

    @classmethod
    def _step_values(cls, options: Mapping[str, Any]) -> tuple[Any, ...]:
        decay, decoupled = options["weight_decay"], options["decoupled_weight_decay"]
        return (
            options["lr"],
            *options["betas"],
            options["eps"],
            0.0 if decoupled else decay,
            decay if decoupled else 0.0,
            options["l1"],
            options["maximize"],
            cls._raw_eps,
        )

    def _state_names(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        return self.state_names if options["amsgrad"] else self.state_names[:2]

    def _spec(self, cohort: Cohort) -> AdamSpec:
        options = cohort.group
        return AdamSpec(
            lr=options["lr"],
            beta1=options["betas"][0],
            beta2=options["betas"][1],
            eps=options["eps"],
            weight_decay=options["weight_decay"],
            decoupled=options["decoupled_weight_decay"],
            maximize=options["maximize"],
            l1=options["l1"],
            penalty=self._penalty(cohort.number),
            raw_eps=self._raw_eps,
        )

    def _state_spec(self, cohort: Cohort, j: int) -> AdamState:
        mean, squares, *largest = (as_stored(arrays[j]) for arrays in cohort.taken)
        return AdamState(mean, squares, largest[0] if largest else None)

    def _update(self, grads: list[Any], cohorts: Sequence[Cohort]) -> bool:
        return dispatch.core.adam_step(grads, self._parts(cohorts))


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

    @classmethod
    def _check_options(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        checked = super()._check_options(options)
        if not checked["decoupled_weight_decay"]:
            raise ValueError(
                f"{cls.__name__}: decoupled_weight_decay must be True; Adam has it False"
            )
        return checked
