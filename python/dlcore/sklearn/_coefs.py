"""The parameters of a network under scikit-learn's names, which exporters read."""

from __future__ import annotations

from operator import is_
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore.nn import _layers as nn
from dlcore.sklearn._state import plain, revived

if TYPE_CHECKING:
    from dlcore._common.typing import Array
    from dlcore.nn._sequential import Sequential

_NORMALIZATIONS = (nn.BatchNorm1d, nn.LayerNorm)


class CoefsMixin:
    """Holds the network, and shows its parameters as ``coefs_`` and ``intercepts_``.

    They are views of the parameters, of shape (in, out), where the network is linear layers and
    activations: what is written there is what predicts. Where it has batch normalization they are
    those of the network that predicts alike without: read-only, and computed when asked for.
    """

    @property
    def coefs_(self) -> list[Array]:
        """Weights of each layer, of shape (in, out): a plain network with them predicts as this one.

        Views of the network's own; read-only copies where batch normalization is part of them.
        AttributeError before a fit and for a network with layer normalization, which is none.
        """
        return self._parameters("coefs_")[0]

    @coefs_.setter
    def coefs_(self, values: list[Array]) -> None:
        self._check_settable("coefs_")
        vars(self)["_coefs"] = values

    @property
    def intercepts_(self) -> list[Array]:
        """Biases of each layer, as ``coefs_``."""
        return self._parameters("intercepts_")[1]

    @intercepts_.setter
    def intercepts_(self, values: list[Array]) -> None:
        self._check_settable("intercepts_")
        vars(self)["_intercepts"] = values

    def _parameters(self: Any, name: str) -> tuple[list[Array], list[Array]]:
        own = vars(self)
        if "_coefs" in own or "_intercepts" in own:
            return own.get("_coefs", []), own.get("_intercepts", [])
        if "model_" not in own:
            raise AttributeError(f"{type(self).__name__} has no {name} before it is fitted")
        return fold_batch_norm(self.model_, name)

    def _check_settable(self: Any, name: str) -> None:
        if "model_" in vars(self) and "_coefs" not in vars(self):
            raise AttributeError(
                f"{name} cannot be set where the network has normalizations, which are no part of "
                f"them: model_ has the parameters"
            )

    def _has_network(self) -> bool:
        return "model_" in vars(self) or "_coefs" in vars(self)

    def _linear_layers(self: Any) -> list[nn.Linear]:
        return [layer for layer in self.model_.layers if isinstance(layer, nn.Linear)]

    def _units(self) -> list[int]:
        """Return the units of each layer of the network, those of X first."""
        layers = self._linear_layers()
        return [layers[0].in_features, *(layer.out_features for layer in layers)]

    def _show_coefs(self: Any) -> None:
        """Show the network's parameters as scikit-learn does: views, of shape (in, out)."""
        own = vars(self)
        if any(isinstance(layer, _NORMALIZATIONS) for layer in self.model_.layers):
            for name in ("_coefs", "_intercepts", "_shown"):
                own.pop(name, None)
            return
        layers = self._linear_layers()
        own["_coefs"] = [layer.weight.T for layer in layers]
        own["_intercepts"] = [layer.bias for layer in layers]
        self._shown = [*own["_coefs"], *own["_intercepts"]]

    def _take_coefs(self: Any, coefs: list[Array], intercepts: list[Array]) -> None:
        """Copy weights and biases into the network."""
        self.model_._make_writeable()
        for layer, coef, intercept in zip(self._linear_layers(), coefs, intercepts, strict=True):
            layer.weight[...] = np.asarray(coef).T
            layer.bias[...] = intercept
        self._show_coefs()

    def _network(self: Any) -> Sequential:
        """Return the network, with what a user may have put into ``coefs_``."""
        own = vars(self)
        if "model_" not in own:  # they were all that was set
            units = [len(self.coefs_[0]), *(np.shape(coef)[1] for coef in self.coefs_)]
            coefs, intercepts = self.coefs_, self.intercepts_
            self._make_network(units, np.result_type(*coefs))
            self._take_coefs(coefs, intercepts)
        elif "_coefs" in own and not all(
            map(is_, [*own["_coefs"], *own["_intercepts"]], self._shown)
        ):
            self._take_coefs(own["_coefs"], own["_intercepts"])
        model: Sequential = self.model_
        return model

    # Views would be copied apart.
    def _written(self: Any, state: dict[str, Any]) -> dict[str, Any]:
        """Return a state to be copied or written, without what the network itself says."""
        if "model_" not in state:
            return state
        self._network()
        left_out = ("_coefs", "_intercepts", "_shown")
        return plain({name: value for name, value in state.items() if name not in left_out})

    def __setstate__(self: Any, state: dict[str, Any]) -> None:
        is_fitted = "model_" in state
        super().__setstate__(revived(state) if is_fitted else state)  # type: ignore[misc]
        if is_fitted:
            self._show_coefs()


def fold_batch_norm(model: Sequential, name: str) -> tuple[list[Array], list[Array]]:
    """Return the weights (in, out) and biases of linear layers that predict as the network does.

    At inference batch normalization multiplies each unit by a factor and adds a number, which are
    here those of the layer before it. Raises AttributeError, for the attribute of that name, where
    there is layer normalization, whose statistics are each row's own.
    """
    coefs: list[Array] = []
    intercepts: list[Array] = []
    for layer in model.layers:
        if isinstance(layer, nn.LayerNorm):
            raise AttributeError(  # noqa: TRY004 - so that hasattr says no
                f"there are no {name} that say what a network with layer normalization predicts: "
                f"model_ has its parameters"
            )
        if isinstance(layer, nn.Linear):
            coefs.append(layer.weight.T.astype(np.float64))
            intercepts.append(np.asarray(layer.bias, np.float64))
        elif isinstance(layer, nn.BatchNorm1d):
            scale = 1 / np.sqrt(np.asarray(layer.running_var, np.float64) + layer.eps)
            if layer.weight is not None:
                scale *= layer.weight
            coefs[-1] *= scale
            intercepts[-1] = (intercepts[-1] - layer.running_mean) * scale
            if layer.bias is not None:
                intercepts[-1] += layer.bias
    return [_as_folded(coef, model) for coef in coefs], [_as_folded(b, model) for b in intercepts]


def _as_folded(array: Array, model: Sequential) -> Array:
    folded = array.astype(model.dtype)
    folded.flags.writeable = False
    return folded
