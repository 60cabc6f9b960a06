"""Groups of parameters for an optimizer, by what they are to the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dlcore._common.checks import check_instance, check_number
from dlcore.nn._chains import leaves_of
from dlcore.nn._layers import known_class
from dlcore.nn._sequential import Sequential

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["parameter_groups"]


def parameter_groups(
    model: Sequential,
    lr: float,
    weight_decay: float | None = None,
    *,
    lr_factors: Mapping[str, float] | None = None,
    weight_decay_factors: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """Divide the parameters of a model into groups with learning rates and weight decays of their own.

    Parameters
    ----------
    model : Sequential
    lr : float
        The learning rate, and
    weight_decay : float, optional
        the weight decay of what has no factor.
    lr_factors, weight_decay_factors : mapping of str to float, optional
        What they are multiplied by. A key is, and the first of these that there is counts:

        - the name of a parameter or the beginning of it, as `Sequential.parameters` takes it: "0",
          "0.weight";
        - a class of layers and one of their parameters, "Linear.bias";
        - a class of layers, "Scale";
        - a parameter of any layer, "bias".

    Returns
    -------
    list of dict
        What optimizers take: parameters with the same two factors are in one group, and the groups in
        the order in which the first of their parameters are in the model.

    Raises
    ------
    ValueError
        A key is of no parameter, a factor is negative or not finite, or there are factors for a
        weight decay that is not given.

    Examples
    --------
    RealMLP's groups:

    >>> import dlcore as dl
    >>> model = dl.Sequential(dl.Scale(9), dl.Linear(9, 32), dl.Mish(), dl.Linear(32, 1), seed=0)
    >>> groups = dl.parameter_groups(
    ...     model,
    ...     lr=0.04,
    ...     weight_decay=0.02,
    ...     lr_factors={"Scale": 6, "bias": 0.1},
    ...     weight_decay_factors={"Scale": 6, "bias": 0},
    ... )
    >>> [(len(g["params"]), round(g["lr"], 4), round(g["weight_decay"], 4)) for g in groups]
    [(1, 0.24, 0.12), (2, 0.04, 0.02), (2, 0.004, 0.0)]
    >>> adamw = dl.AdamW(groups, betas=(0.9, 0.95))
    """
    check_instance("parameter_groups: model", model, Sequential)
    lr = check_number("parameter_groups: lr", lr, "[0, inf)")
    if weight_decay is not None:
        weight_decay = check_number("parameter_groups: weight_decay", weight_decay, "[0, inf)")
    elif weight_decay_factors is not None:
        raise ValueError("parameter_groups: weight_decay_factors need a weight_decay")
    keys = _keys(model)
    of_lr = _checked("lr_factors", lr_factors, keys)
    of_decay = _checked("weight_decay_factors", weight_decay_factors, keys)
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in model.named_parameters().items():
        factors = _factor(of_lr, keys[name]), _factor(of_decay, keys[name])
        if factors not in groups:
            groups[factors] = {"params": [], "lr": lr * factors[0]}
            if weight_decay is not None:
                groups[factors]["weight_decay"] = weight_decay * factors[1]
        groups[factors]["params"].append(parameter)
    return list(groups.values())


def _keys(model: Sequential) -> dict[str, list[str]]:
    """Return what each parameter is called, by its name, the closest first."""
    keys = {}
    for start, leaf in leaves_of(model.layers).items():
        # Its own class, and that of this package that it is derived from.
        kinds = dict.fromkeys(k.__name__ for k in (type(leaf), known_class(leaf)) if k)
        for own in leaf._parameter_shapes:
            parts = f"{start}.{own}".split(".")
            places = [".".join(parts[:i]) for i in range(len(parts), 0, -1)]
            keys[f"{start}.{own}"] = [*places, *(f"{k}.{own}" for k in kinds), *kinds, own]
    return keys


def _checked(
    name: str, factors: Mapping[str, float] | None, keys: Mapping[str, Sequence[str]]
) -> dict[str, float]:
    there = {key for of_parameter in keys.values() for key in of_parameter}
    checked = {}
    factors = {} if factors is None else factors
    check_instance(f"parameter_groups: {name}", factors, Mapping)
    for key, factor in factors.items():
        if key not in there:
            kinds = sorted(key for key in there if not key[0].isdigit() and "." not in key)
            raise ValueError(
                f"parameter_groups: {name} has {key!r}, but no parameter is called so: there are "
                f"{', '.join(kinds)}, and {', '.join(keys)}"
            )
        checked[key] = check_number(f"parameter_groups: {name}[{key!r}]", factor, "[0, inf)")
    return checked


def _factor(factors: Mapping[str, float], keys: Sequence[str]) -> float:
    return next((factors[key] for key in keys if key in factors), 1.0)
