"""Networks for tables and how they are trained: what is made of the description of a table.

The figures are those of the packages of the papers: of pytabkit for RealMLP, of tabm for TabM.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore.nn import _layers as nn
from dlcore.nn._featurewise import Scale
from dlcore.nn._initialization import initialize
from dlcore.nn._members import EnsembleMean, LinearBatchEnsemble, LinearEnsemble
from dlcore.nn._sequential import Sequential
from dlcore.optim._adam import AdamW
from dlcore.optim._schedules import CosLogLR

if TYPE_CHECKING:
    from typing import Literal, TypeAlias

    from dlcore._common.typing import Array
    from dlcore.nn._members import ScalingInit
    from dlcore.optim._schedules import Schedule

    Mean: TypeAlias = Literal["outputs", "softmax", "sigmoid"]

_SIGNS: ScalingInit = "random-signs"
_ONES: ScalingInit = "ones"
# Rows that initial weights are made of.
_ROWS = 8192


@dataclass(frozen=True)
class Task:
    """What a network is to predict.

    Parameters
    ----------
    outputs : int
        Its outputs.
    kind : {"classes", "labels", "values"}
        What they are: logits of one of several classes, of independent ones, or values.
    targets : int
        How many targets share the outputs.
    """

    outputs: int
    kind: str
    targets: int = 1

    @property
    def mean(self) -> Mean:
        """What is averaged over members; of several targets of classes the logits."""
        if self.kind == "classes" and self.targets == 1:
            return "softmax"
        return "sigmoid" if self.kind == "labels" else "outputs"


@dataclass(frozen=True)
class Plan:
    """A network, and what a trainer is told."""

    model: Sequential
    optimizer: Any
    schedule: Schedule | None


class RealMLP:
    """RealMLP-TD of Holzmüller, Grinsztajn, Steinwart (NeurIPS 2024)."""

    width = 256
    epochs = 256
    patience: int | None = None  # the schedule goes down to 0 at the end
    label_smoothing = 0.1
    clips_values = True

    def batch_size(self, rows: int) -> int:
        """Return the rows of a batch: at most 256, and equally many in each."""
        return math.ceil(rows / math.ceil(rows / 256))

    def plan(self, x: Array, task: Task, updates: int, seed: int) -> Plan:
        """Make the network for rows like x, for this many updates."""
        is_regression = task.kind == "values"
        activation = nn.SiLU if is_regression else nn.ELU
        layers: list[Any] = [Scale(x.shape[1])]
        width = x.shape[1]
        for _ in range(3):
            layers += [nn.Linear(width, self.width, parametrization="ntk"), activation()]
            layers += [nn.Dropout(0.15)]
            width = self.width
        layers.append(nn.Linear(width, task.outputs, parametrization="ntk"))
        model = Sequential(*layers, seed=seed)
        rng = np.random.default_rng(seed)
        some = x if len(x) <= _ROWS else x[rng.choice(len(x), _ROWS, replace=False)]
        initialize(model, "unit_variance", bias="he+5", x=some, seed=seed)
        rate = 0.2 if is_regression else 0.04
        named = model.named_parameters()
        scale = named.pop("0.weight")
        biases = [named.pop(name) for name in list(named) if name.endswith("bias")]
        optimizer = AdamW(
            [
                {"params": list(named.values()), "lr": rate, "weight_decay": 0.02},
                {"params": [scale], "lr": 6 * rate, "weight_decay": 0.12},
                {"params": biases, "lr": 0.1 * rate, "weight_decay": 0.0},
            ],
            betas=(0.9, 0.95),
        )
        return Plan(model, optimizer, CosLogLR(updates, per="iteration"))


class TabM:
    """TabM of Gorishniy, Kotelnikov, Babenko (ICLR 2025): members that share weights."""

    epochs = 500
    patience: int | None = 16
    label_smoothing = 0.0
    clips_values = False
    k = 32
    width = 512

    def batch_size(self, rows: int) -> int:
        """Return the rows of a batch."""
        for size, least in ((1024, 108000), (512, 32000), (256, 6400), (128, 4500), (64, 2800)):
            if rows >= least:
                return size
        return 32

    def plan(self, x: Array, task: Task, updates: int, seed: int) -> Plan:  # noqa: ARG002
        """Make the network for rows like x."""
        layers: list[Any] = []
        width, scaling = x.shape[1], _SIGNS
        for _ in range(3):
            layers += [LinearBatchEnsemble(width, self.width, self.k, scaling_init=scaling)]
            layers += [nn.ReLU(), nn.Dropout(0.1)]
            width, scaling = self.width, _ONES
        layers += [LinearEnsemble(width, task.outputs, self.k), EnsembleMean(task.mean)]
        model = Sequential(*layers, seed=seed)
        named = model.named_parameters()
        weights = [value for name, value in named.items() if name.endswith(".weight")]
        others = [value for name, value in named.items() if not name.endswith(".weight")]
        optimizer = AdamW(
            [{"params": weights, "weight_decay": 3e-4}, {"params": others, "weight_decay": 0.0}],
            lr=2e-3,
        )
        return Plan(model, optimizer, None)


RECIPES: dict[str, RealMLP | TabM] = {"realmlp": RealMLP(), "tabm": TabM()}
