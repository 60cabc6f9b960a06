"""Optimizers that update arrays in place, all of them in one fused call: PyTorch's updates exactly.

Largest errors in units in the last place, against a wider reference (where a result is a difference
of terms, in units of the terms); the tests hold them.

===============  =======  =======
kernel           float32  float64
===============  =======  =======
SGD                    3        3
Adam                   4        4
AdamW                  4        4
clip_grad_norm         4        6
clip_grad_value        0        0
===============  =======  =======
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, SupportsFloat

import numpy as np

from dlcore._native import dispatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dlcore._common.typing import Array

__all__ = ["SGD", "Adam", "AdamW", "clip_grad_norm", "clip_grad_value"]


# Arrays, or groups of them: {"params": arrays, option: value, ...}.
Params = Iterable[Any]


class Optimizer:
    """What the optimizers share: parameters, options by group and the state of each parameter.

    `step` checks every array before it changes one. A parameter may have any layout; parameters must
    not overlap.
    """

    # Options that are numbers, with the range that they must be in.
    _ranges: Mapping[str, tuple[float, float]] = {}

    def __init__(self, params: Params, options: dict[str, Any]) -> None:
        self.params: list[Array] = []
        self._groups: list[dict[str, Any]] = []  # the options of each group
        self._group_of: list[int] = []  # the group of each parameter
        # The state by name, an array for each parameter; empty before the first step.
        self._state: dict[str, list[Array]] = {}
        self._steps = 0
        groups = self._take_params(params, options)
        self._check_params()
        self._set_groups(groups)

    def _take_params(self, params: Params, options: dict[str, Any]) -> list[dict[str, Any]]:
        """Take the parameters, and return the options of each group."""
        given: list[Any] = [params] if isinstance(params, Mapping) else list(params)
        are_groups = [isinstance(group, Mapping) for group in given]
        if any(are_groups) and not all(are_groups):
            raise TypeError(f"{self._name}: params must be arrays or groups (dicts), not both")
        groups = []
        for i, group in enumerate(given if any(are_groups) else [{"params": given}]):
            unknown = sorted(group.keys() - {"params", *options})
            if unknown or "params" not in group:
                raise ValueError(
                    f"{self._name}: params[{i}] must hold 'params' and options of "
                    f"{', '.join(options)}, got {', '.join(map(repr, group))}"
                )
            own = group["params"]
            own = [own] if isinstance(own, np.ndarray) and any(are_groups) else list(own)
            self.params += own
            self._group_of += [i] * len(own)
            groups.append(options | {name: group[name] for name in group if name != "params"})
        return groups

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

    def _check_options(self, options: Mapping[str, Any]) -> None:
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

    def _set_groups(self, groups: list[dict[str, Any]]) -> None:
        for options in groups:
            self._check_options(options)
            if self._state_names(options) != self._state_names(groups[0]):
                raise ValueError(
                    f"{self._name}: all groups must keep the same state: momentum or amsgrad for "
                    f"all of them, or for none"
                )
        self._groups = groups
        self._values = [self._step_values(options) for options in groups]

    @staticmethod
    def _step_values(options: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the options as the kernel takes them."""
        raise NotImplementedError

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The options of each group with its parameters: new dicts, the arrays themselves."""
        return [
            {**options, "params": [self.params[i] for i in self._members(group)]}
            for group, options in enumerate(self._groups)
        ]

    def _members(self, group: int) -> list[int]:
        return [i for i, own in enumerate(self._group_of) if own == group]

    @property
    def lrs(self) -> list[float]:
        """The learning rate of each group."""
        return [float(options["lr"]) for options in self._groups]

    def set_lrs(self, lrs: Sequence[float]) -> None:
        """Set the learning rate of each group."""
        if len(lrs) != len(self._groups):
            raise ValueError(
                f"{self._name}: lrs must hold {len(self._groups)} numbers, got {len(lrs)}"
            )
        pairs = zip(self._groups, lrs, strict=True)
        self._set_groups([{**options, "lr": lr} for options, lr in pairs])

    @property
    def lr(self) -> float:
        """The learning rate of the next step, of the first group if there are several.

        Setting it needs groups that have one rate in common; `set_lrs` sets those of each.
        """
        return self.lrs[0]

    @lr.setter
    def lr(self, value: float) -> None:
        if len(set(self.lrs)) > 1:
            raise ValueError(
                f"{self._name}: the groups have learning rates of their own, {self.lrs}; "
                f"set_lrs(...) sets them"
            )
        self.set_lrs([value] * len(self._groups))

    def __repr__(self) -> str:
        groups = [
            ", ".join(
                [f"{len(self._members(i))} arrays", *(f"{k}={v}" for k, v in options.items())]
            )
            for i, options in enumerate(self._groups)
        ]
        return f"{self._name}({'; '.join(groups)})"

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
            step = {"step": self._steps} if "step" in self._state_names(self._groups[0]) else {}
            for i in range(len(self.params)):
                state[i] = {**step, **{name: a[i].copy() for name, a in self._state.items()}}
        groups = [{**options, "params": self._members(i)} for i, options in enumerate(self._groups)]
        return {"state": state, "param_groups": groups}

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
        own = [len(self._members(i)) for i in range(len(self._groups))]
        given = [len(group["params"]) for group in groups]
        if given != own:
            raise ValueError(
                f"{self._name}.load_state_dict: state_dict must be of groups of {own} parameters, "
                f"got {given}"
            )
        taken = [self._options_of(group) for group in groups]
        state = state_dict["state"]
        if state and set(state) != set(range(len(self.params))):
            raise ValueError(
                f"{self._name}.load_state_dict: state must be of all parameters or of none, "
                f"got {sorted(state)}"
            )
        names = self._state_names(taken[0])
        for i, p in enumerate(self.params if state else []):
            self._check_state(i, p, state[i], names)
        self._set_groups(taken)
        self._steps = int(state[0].get("step", 0)) if state else 0
        self._state = {
            name: [state[i][name].copy() for i in range(len(self.params))]
            for name in sorted(names - {"step"} if state else ())
        }

    def _options_of(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options of a group of a `state_dict`."""
        missing = self._groups[0].keys() - group.keys()
        if missing:
            raise ValueError(f"{self._name}.load_state_dict: no option {sorted(missing)}")
        options = {name: group[name] for name in self._groups[0]}
        return {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}

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

    def _penalty(self, group: int) -> float:  # noqa: ARG002
        """L2 penalty of a group that is part of the loss of a batch, divided by its normalizer."""
        return 0.0

    def rules(self) -> list[tuple[Any, ...]]:
        """Return the update as native steps take it: name, how far it is, options, penalty.

        One for each group of parameters, of which `groups` tells.
        """
        raise NotImplementedError

    def groups(self) -> list[int]:
        """Return the number of each parameter's group."""
        return list(self._group_of)

    def state_arrays(self) -> dict[str, list[Array]]:
        """Return the state by name, in the order of the native update; zeros before the first step."""
        if self._state:
            return self._state
        names = sorted(self._state_names(self._groups[0]) - {"step"})
        return {name: self._zeros() for name in names}

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
        state = self.state_arrays()
        given: list[Any] = grads if isinstance(grads, list) else list(grads)
        if len(self._groups) == 1:
            self._step_group(self.params, given, state, self._values[0])
        else:
            self._check_grads(given)
            for group, values in enumerate(self._values):
                members = self._members(group)
                params, own, *states = (
                    [arrays[i] for i in members] for arrays in (self.params, given, *state.values())
                )
                self._step_group(params, own, dict(zip(state, states, strict=True)), values)
        self.advance(1, state)

    def _step_group(
        self,
        params: list[Array],
        grads: list[Array],
        state: dict[str, list[Array]],
        values: tuple[Any, ...],
    ) -> None:
        raise NotImplementedError

    def _check_grads(self, grads: list[Any]) -> None:
        """Check the gradients of all groups; the kernel does so for one."""
        if len(grads) != len(self.params):
            raise ValueError(
                f"{self._name}.step: grads must hold {len(self.params)} arrays, got {len(grads)}"
            )
        for i, (p, g) in enumerate(zip(self.params, grads, strict=True)):
            name = f"{self._name}.step: grads[{i}]"
            if not isinstance(g, np.ndarray) or g.dtype != p.dtype:
                got = getattr(g, "dtype", type(g).__name__)
                raise TypeError(f"{name} must be an array of {p.dtype}, got {got}")
            if g.shape != p.shape:
                raise ValueError(f"{name} must have the shape {p.shape}, got {g.shape}")
            if any(np.may_share_memory(g, other) for other in self.params):
                raise ValueError(f"{name} shares memory with a parameter")


class SGD(Optimizer):
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

    def rules(self) -> list[tuple[Any, ...]]:
        return [
            ("sgd", not self._state, *values, self._penalty(group))
            for group, values in enumerate(self._values)
        ]

    def _step_group(
        self,
        params: list[Array],
        grads: list[Array],
        state: dict[str, list[Array]],
        values: tuple[Any, ...],
    ) -> None:
        buffers = state.get("momentum_buffer")
        dispatch.core.sgd_step(params, grads, buffers, not self._state, *values)


class Adam(Optimizer):
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

    def rules(self) -> list[tuple[Any, ...]]:
        return [
            ("adam", self._steps, *values, self._raw_eps, self._penalty(group))
            for group, values in enumerate(self._values)
        ]

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
    return dispatch.core.clip_grad_norm(list(grads), max_norm)


def clip_grad_value(grads: Sequence[Array], clip_value: float) -> None:
    """Limit each element of gradients to ``±clip_value``, in place, as PyTorch's ``clip_grad_value_``.

    Parameters
    ----------
    grads : sequence of ndarray of float32 or float64
    clip_value : float
        At least 0. NaN stays NaN.

    Raises
    ------
    TypeError
        If an array is not float32 or float64.
    ValueError
        If one is read-only, or `clip_value` is negative or NaN. Nothing is changed then.
    """
    if not clip_value >= 0:
        raise ValueError(f"clip_grad_value: clip_value must be at least 0, got {clip_value}")
    arrays: list[Any] = list(grads)
    for i, g in enumerate(arrays):
        if not isinstance(g, np.ndarray) or g.dtype not in (np.float32, np.float64):
            got = getattr(g, "dtype", type(g).__name__)
            raise TypeError(
                f"clip_grad_value: grads[{i}] must be a float32 or float64 array, got {got}"
            )
        if not g.flags.writeable:
            raise ValueError(f"clip_grad_value: grads[{i}] is read-only")
    for g in arrays:
        np.clip(g, -clip_value, clip_value, out=g)
