"""The optimizers of scikit-learn's perceptrons, as native updates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dlcore._common.arrays import as_writeable
from dlcore.nn._layers import Linear
from dlcore.optim._adam import Adam
from dlcore.optim._optimizer import Optimizer
from dlcore.optim._sgd import SGD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dlcore._common.typing import Array
    from dlcore.nn._sequential import Sequential


class _OfPerceptron(Optimizer):
    """Regularizes the weights of the linear layers alone, as scikit-learn does.

    ``penalty`` is its ``alpha``: the loss of a batch has half of it times the sum of the squared
    weights more, divided by the weight of the batch.
    """

    _alpha = 0.0

    def bind(self, model: Sequential, penalty: float) -> None:
        """Update the parameters of this model, with that penalty."""
        self.params = model.parameters()
        self._state = _as_writeable(self._state)
        self._alpha = penalty
        self._group_of = [
            0 if isinstance(layer, Linear) and name == "weight" else 1
            for layer in model.layers
            for name in layer._parameter_shapes
        ]
        options = self._groups[0]
        self._set_groups([options, {**options, "weight_decay": 0.0, "l1": 0.0}])

    def _penalty(self, group: int) -> float:
        return self._alpha if group == 0 else 0.0

    @property
    def learning_rate(self) -> float:
        """The learning rate, under scikit-learn's name."""
        return self.lr

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self.lr = value

    # The parameters are those of a model; a copy is bound to its own.
    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"params": []}

    def take_over(self, other: Any) -> None:
        """Go on with the state of another one, if it is of the same kind and shape."""
        if type(other) is not type(self) or not other._state:
            return
        shapes = [p.shape for p in self.params]
        if other._state.keys() == self._names() and all(
            [a.shape for a in arrays] == shapes for arrays in other._state.values()
        ):
            self._state, self._steps = _as_writeable(other._state), other._steps

    def _names(self) -> set[str]:
        return self._state_names(self._groups[0]) - {"step"}


def _as_writeable(state: dict[str, list[Array]]) -> dict[str, list[Array]]:
    """Copy state that was loaded as a read-only map of a file."""
    return {name: [as_writeable(array) for array in arrays] for name, arrays in state.items()}


class MomentumSGD(_OfPerceptron, SGD):
    """SGD whose momentum holds steps, not gradients: a new learning rate is for new gradients."""

    def set_lrs(self, lrs: Sequence[float]) -> None:
        """Set the learning rates, which are all the same."""
        before, value = self.lr, lrs[0]
        super().set_lrs(lrs)
        for buffer in self._state.get("momentum_buffer", ()) if value > 0 else ():
            buffer *= before / value


class EarlyEpsAdam(_OfPerceptron, Adam):
    """Adam with epsilon added before the bias of the mean of squares is corrected."""

    _raw_eps = True


def make_optimizer(
    solver: str, options: dict[str, Any], model: Sequential, penalty: float
) -> MomentumSGD | EarlyEpsAdam:
    """Make the optimizer of a solver, "sgd", "adam" or "adamw"."""
    parameters: list[Array] = model.parameters()
    made: MomentumSGD | EarlyEpsAdam
    if solver == "sgd":
        made = MomentumSGD(parameters, **options)
    else:
        made = EarlyEpsAdam(parameters, **options, decoupled_weight_decay=solver == "adamw")
    made.bind(model, penalty)
    return made
