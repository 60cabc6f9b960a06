"""Optimizers that update arrays in place, all of them in one fused call: PyTorch's updates exactly.

Largest errors in units in the last place, against a wider reference (where a result is a difference
of terms, in units of the terms); the tests hold them.

==============  =======  =======
kernel          float32  float64
==============  =======  =======
SGD                   3        3
Adam                  4        4
AdamW                 4        4
clip_grad_norm        4        6
==============  =======  =======
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, SupportsFloat

import numpy as np

from . import _isa

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ._typing import Array

__all__ = ["SGD", "Adam", "AdamW", "clip_grad_norm"]


def _as_list(grads: Sequence[Array]) -> list[Array]:
    return grads if isinstance(grads, list) else list(grads)


class Optimizer:
    """What the optimizers share: parameters, options and the state of each parameter.

    `step` checks every array before it changes one. A parameter may have any layout; parameters must
    not overlap.
    """

    # Options that are numbers, with the range that they must be in.
    _ranges: Mapping[str, tuple[float, float]] = {}

    def __init__(self, params: Iterable[Array], options: dict[str, Any]) -> None:
        self.params: list[Array] = list(params)
        self._options: dict[str, Any] = {}
        # The state by name, an array for each parameter; empty before the first step.
        self._state: dict[str, list[Array]] = {}
        self._steps = 0
        self._check_params()
        self._set_options(options)

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _check_params(self) -> None:
        if not self.params:
            raise ValueError(f"{self._name}: params is empty")
        for i, p in enumerate(self.params):
            name = f"{self._name}: params[{i}]"
            if not isinstance(p, np.ndarray):
                raise TypeError(f"{name} must be an array, got {type(p).__name__}")
            if p.dtype not in (np.float32, np.float64) or not p.dtype.isnative:
                raise TypeError(f"{name} must be a float32 or float64 array, got {p.dtype}")
            if not p.flags.writeable:
                raise ValueError(f"{name} is read-only")
        spans = sorted((*np.lib.array_utils.byte_bounds(p), i) for i, p in enumerate(self.params))
        open_spans: list[tuple[int, int]] = []  # those that reach beyond the start of the next one
        for low, high, i in spans:
            open_spans = [(end, j) for end, j in open_spans if low < end]
            for _, j in open_spans:
                if np.shares_memory(self.params[i], self.params[j]):
                    raise ValueError(f"{self._name}: params[{j}] and params[{i}] share memory")
            open_spans.append((high, i))

    def _set_options(self, options: dict[str, Any]) -> None:
        for name, (low, high) in self._ranges.items():
            values = options[name] if isinstance(options[name], tuple) else (options[name],)
            for value in values:
                if isinstance(value, (str, bytes)) or not isinstance(value, SupportsFloat):
                    raise TypeError(
                        f"{self._name}: {name} must be a number, got {type(value).__name__}"
                    )
                if not low <= float(value) < high:
                    below = "" if high == np.inf else f" and less than {high:g}"
                    raise ValueError(
                        f"{self._name}: {name} must be at least {low:g}{below}, got {options[name]}"
                    )
        self._options = options
        self._values = self._step_values(options)

    @staticmethod
    def _step_values(options: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the options as the kernel takes them."""
        raise NotImplementedError

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""
        return float(self._options["lr"])

    @lr.setter
    def lr(self, value: float) -> None:
        self._set_options({**self._options, "lr": value})

    def __repr__(self) -> str:
        options = ", ".join(f"{k}={v}" for k, v in self._options.items())
        return f"{self._name}({len(self.params)} arrays, {options})"

    def _zeros(self) -> list[Array]:
        """Return an array of zeros for each parameter, in one block of memory for each dtype."""
        zeros: list[Array] = [np.empty(0)] * len(self.params)
        for dtype in {p.dtype for p in self.params}:
            mine = [i for i, p in enumerate(self.params) if p.dtype == dtype]
            block = np.zeros(sum(self.params[i].size for i in mine), dtype)
            at = 0
            for i in mine:
                p = self.params[i]
                zeros[i] = block[at : at + p.size].reshape(p.shape)
                at += p.size
        return zeros

    def state_dict(self) -> dict[str, Any]:
        """Return options and state in PyTorch's layout; the arrays are copies.

        Returns
        -------
        dict
            ``{"state": {i: {name: array or number}}, "param_groups": [{option: value, "params": [...]}]}``.
        """
        state = {}
        if self._state:
            step = {"step": self._steps} if "step" in self._state_names(self._options) else {}
            for i in range(len(self.params)):
                state[i] = {**step, **{name: a[i].copy() for name, a in self._state.items()}}
        group = {**self._options, "params": list(range(len(self.params)))}
        return {"state": state, "param_groups": [group]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over the options and state of `state_dict`; the arrays are copied.

        Raises
        ------
        ValueError
            If it does not fit: another number of parameters, other names, other shapes. Nothing is
            changed then.
        TypeError
            If an array has another dtype than its parameter.
        """
        groups = state_dict["param_groups"]
        if len(groups) != 1 or len(groups[0]["params"]) != len(self.params):
            raise ValueError(
                f"{self._name}.load_state_dict: state_dict must be of one group of "
                f"{len(self.params)} parameters, got {[len(g['params']) for g in groups]}"
            )
        options = {k: v for k, v in groups[0].items() if k in self._options}
        missing = self._options.keys() - options.keys()
        if missing:
            raise ValueError(f"{self._name}.load_state_dict: no option {sorted(missing)}")
        options = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
        state = state_dict["state"]
        if state and set(state) != set(range(len(self.params))):
            raise ValueError(
                f"{self._name}.load_state_dict: state must be of all parameters or of none, "
                f"got {sorted(state)}"
            )
        names = self._state_names(options)
        for i, p in enumerate(self.params if state else []):
            self._check_state(i, p, state[i], names)
        self._set_options(options)
        self._steps = int(state[0].get("step", 0)) if state else 0
        self._state = {
            name: [state[i][name].copy() for i in range(len(self.params))]
            for name in sorted(names - {"step"} if state else ())
        }

    def _state_names(self, options: Mapping[str, Any]) -> set[str]:
        raise NotImplementedError

    def _check_state(self, i: int, p: Array, given: Mapping[str, Any], names: set[str]) -> None:
        if given.keys() != names:
            raise ValueError(
                f"{self._name}.load_state_dict: state[{i}] must hold {sorted(names)}, "
                f"got {sorted(given)}"
            )
        for name in names - {"step"}:
            value = given[name]
            where = f"{self._name}.load_state_dict: state[{i}][{name!r}]"
            if not isinstance(value, np.ndarray) or value.dtype != p.dtype:
                got = getattr(value, "dtype", type(value).__name__)
                raise TypeError(f"{where} must be an array of {p.dtype}, got {got}")
            if value.shape != p.shape:
                raise ValueError(f"{where} must have the shape {p.shape}, got {value.shape}")

    # L2 penalty on the parameters that is part of the loss of a batch, divided by its mass.
    _penalty = 0.0

    def rules(self) -> list[tuple[Any, ...]]:
        """Return the update as native steps take it: name, how far it is, options, penalty.

        One for each group of parameters, of which `groups` tells.
        """
        raise NotImplementedError

    def groups(self) -> list[int]:
        """Return the number of each parameter's group."""
        return [0] * len(self.params)

    def state_arrays(self) -> dict[str, list[Array]]:
        """Return the state by name, in the order of the native update; zeros before the first step."""
        names = sorted(self._state_names(self._options) - {"step"})
        return self._state or {name: self._zeros() for name in names}

    def advance(self, steps: int, state: dict[str, list[Array]]) -> None:
        """Take over what native steps have done to ``state_arrays()``."""
        if steps:
            self._state = state
            self._steps += steps

    def step(self, grads: Sequence[Array]) -> None:
        """Update the parameters in place.

        Parameters
        ----------
        grads : sequence of ndarray
            One for each parameter, of its shape and dtype. They are not changed.

        Raises
        ------
        TypeError
            If a gradient has another dtype than its parameter.
        ValueError
            If the number of gradients or a shape differs, or a gradient shares memory with its
            parameter. Nothing is changed then.
        """
        raise NotImplementedError


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum.

    Parameters
    ----------
    params : iterable of ndarray
        The arrays to update, float32 or float64.
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
        params: Iterable[Array],
        lr: float = 1e-3,
        *,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        maximize: bool = False,
        l1: float = 0.0,
    ) -> None:
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("SGD: nesterov needs a momentum greater than 0 and no dampening")
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

    def rules(self) -> list[tuple[Any, ...]]:  # noqa: D102
        return [("sgd", not self._state, *self._values, self._penalty)]

    def step(self, grads: Sequence[Array]) -> None:  # noqa: D102
        state = self.state_arrays()
        buffers = state.get("momentum_buffer")
        _isa.core.sgd_step(self.params, _as_list(grads), buffers, not self._state, *self._values)
        self.advance(1, state)


class Adam(Optimizer):
    """Adam: adaptive rates from running means of the gradient and of its square.

    Parameters
    ----------
    params : iterable of ndarray
        The arrays to update, float32 or float64.
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
        params: Iterable[Array],
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
        if len(betas) != 2:
            raise ValueError(f"{self._name}: betas must be two numbers, got {betas}")
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

    def rules(self) -> list[tuple[Any, ...]]:  # noqa: D102
        return [("adam", self._steps, *self._values, self._raw_eps, self._penalty)]

    def step(self, grads: Sequence[Array]) -> None:  # noqa: D102
        state = self.state_arrays()
        _isa.core.adam_step(
            self.params,
            _as_list(grads),
            state["exp_avg"],
            state["exp_avg_sq"],
            state.get("max_exp_avg_sq"),
            self._steps + 1,
            *self._values,
        )
        self.advance(1, state)


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
        params: Iterable[Array],
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


def clip_grad_norm(grads: Sequence[Array], max_norm: float) -> float:
    """Scale gradients in place so that their common 2-norm is at most `max_norm`.

    The factor is ``max_norm / (norm + 1e-6)`` where that is less than 1, as in PyTorch's
    ``clip_grad_norm_``.

    Parameters
    ----------
    grads : sequence of ndarray of float32 or float64
    max_norm : float
        At least 0.

    Returns
    -------
    float
        The norm before, of all elements together, accumulated in float64.

    Raises
    ------
    TypeError
        If an array is not float32 or float64.
    ValueError
        If one is read-only, or `max_norm` is negative or NaN. Nothing is changed then.
    """
    if not max_norm >= 0:
        raise ValueError(f"clip_grad_norm: max_norm must be at least 0, got {max_norm}")
    return _isa.core.clip_grad_norm(list(grads), max_norm)
