"""The optimizers of scikit-learn's perceptrons, as native updates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dlcore.nn._layers import Linear
from dlcore.optim._adam import Adam
from dlcore.optim._groups import rebound
from dlcore.optim._optimizer import Optimizer
from dlcore.optim._sgd import SGD
from dlcore.training._learning_rate import ScheduledLearningRates

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
        self._bind([p for group in _groups_of(model) for p in group])
        self._alpha = penalty

    def _penalty(self, group: int) -> float:
        return self._alpha if group == 0 else 0.0

    @property
    def learning_rate(self) -> float:
        """The learning rate, under scikit-learn's name."""
        return self.lr

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self.lr = value

    # The parameters are those of an estimator's model, to which it binds its copy.
    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_params": (), "_tie": None}

    def take_over(self, other: Any) -> None:
        """Go on with the state of another one, if it is of the same kind and shape."""
        if type(other) is not type(self) or not any(c.steps or c.state for c in other._cohorts):
            return
        state = other.state_arrays()
        names = {name for cohort in self._cohorts for name in self._state_names(cohort.group)}
        if state.keys() == names and all(
            [a.shape for a in arrays] == [p.shape for p in self.params] for arrays in state.values()
        ):
            _, self._cohorts = rebound(self._groups, other._cohorts, self.params)
            for cohort in self._cohorts:
                cohort.group = self._groups[cohort.number]


def _groups_of(model: Sequential) -> tuple[list[Array], list[Array]]:
    """Return the weights of linear layers, and the other parameters."""
    weights: list[Array] = []
    others: list[Array] = []
    own = iter(model.parameters())
    for layer in model.layers:
        for name in layer._parameter_shapes:
            is_weight = isinstance(layer, Linear) and name == "weight"
            (weights if is_weight else others).append(next(own))
    return weights, others


class MomentumSGD(_OfPerceptron, SGD):
    """SGD whose momentum holds steps, not gradients: a new learning rate is for new gradients."""

    def set_lrs(self, lrs: Sequence[float]) -> None:
        """Set the learning rates, which are all the same."""
        before, value = self.lr, lrs[0]
        super().set_lrs(lrs)
        for cohort in self._cohorts if value > 0 else ():
            buffers = cohort.state.get("momentum_buffer", [])
            buffers[:] = [buffer * (before / value) for buffer in buffers]


class EarlyEpsAdam(_OfPerceptron, Adam):
    """Adam with epsilon added before the bias of the mean of squares is corrected."""

    _raw_eps = True


def make_learning_rates(learning_rate: Any, optimizer: Optimizer) -> ScheduledLearningRates:
    """Make what sets the rates of a fit: a ``learning_rate`` that is a schedule, or nothing."""
    schedule = learning_rate if callable(learning_rate) else None
    return ScheduledLearningRates(schedule, optimizer, "learning_rate")


def make_optimizer(
    solver: str, options: dict[str, Any], model: Sequential, penalty: float
) -> MomentumSGD | EarlyEpsAdam:
    """Make the optimizer of a solver, "sgd", "adam" or "adamw"."""
    weights, others = _groups_of(model)
    groups = [{"params": weights}, {"params": others, "weight_decay": 0.0, "l1": 0.0}]
    made: MomentumSGD | EarlyEpsAdam
    if solver == "sgd":
        made = MomentumSGD(groups, **options)
    else:
        made = EarlyEpsAdam(groups, **options, decoupled_weight_decay=solver == "adamw")
    made._alpha = penalty
    return made
