"""Networks for tables and how they are trained: what is made of the description of a table.

The figures are those of the packages of the papers: of pytabkit for RealMLP, of tabm for TabM.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore.callbacks._scheduled import DropoutSchedule, WeightDecaySchedule
from dlcore.nn import _layers as nn
from dlcore.nn._chains import leaves_of
from dlcore.nn._embeddings import CategoricalEmbeddings
from dlcore.nn._featurewise import ParametricActivation, Scale
from dlcore.nn._initialization import initialize
from dlcore.nn._members import EnsembleMean, LinearBatchEnsemble, LinearEnsemble
from dlcore.nn._number_embeddings import PBLDEmbeddings, PiecewiseLinearEmbeddings
from dlcore.nn._parallel import Parallel
from dlcore.nn._parameter_groups import parameter_groups
from dlcore.nn._sequential import Sequential
from dlcore.optim._adam import AdamW
from dlcore.optim._schedules import CosLogLR, FlatCosineLR
from dlcore.preprocessing._piecewise import compute_bins

if TYPE_CHECKING:
    from typing import Literal, TypeAlias

    from dlcore._common.typing import Array
    from dlcore.nn._members import ScalingInit
    from dlcore.optim._schedules import Schedule
    from dlcore.sklearn._preparation import Preparation

    Mean: TypeAlias = Literal["outputs", "softmax", "sigmoid"]

# Width of what stands for a category, and for a number with at most so many bins.
_OF_CATEGORY, _OF_NUMBER, _BINS = 8, 16, 48
# Layers of RealMLP that learn at a tenth of the rate.
_SLOW = {"ParametricActivation", "Periodic", "NLinear", "LinearEmbeddings"}
# The names of the tables of categories.
_TABLE = re.compile(r"0\.\d+\.\d+\.weight")
_SIGNS: ScalingInit = "random-signs"
_NORMAL: ScalingInit = "normal"
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
    """A network, and what a trainer is told.

    Parameters
    ----------
    embeddings : list of str
        The names of the tables of categories, in the order of their columns.
    """

    model: Sequential
    optimizer: Any
    schedule: Schedule | None
    callbacks: tuple[Any, ...] = ()
    embeddings: tuple[str, ...] = ()


class RealMLP:
    """RealMLP-TD of Holzmüller, Grinsztajn, Steinwart (NeurIPS 2024)."""

    k = 1
    width = 256
    epochs = 256
    patience: int | None = None  # the schedule goes down to 0 at the end
    label_smoothing = 0.1
    clips_values = True
    most_one_hot = 8
    max_categories: int | None = None
    by_ranks = False
    embeds_numbers: str | None = "pbld"

    def batch_size(self, rows: int) -> int:
        """Return the rows of a batch: at most 256, and equally many in each."""
        return math.ceil(rows / math.ceil(rows / 256))

    def plan(
        self,
        prepare: Preparation,
        x: Array,
        task: Task,
        updates: int,
        epochs: int,
        seed: int,
        *,
        num_embeddings: str | None,
    ) -> Plan:
        """Make the network for rows like x, for this many updates."""
        is_regression = task.kind == "values"
        activation = "mish" if is_regression else "selu"
        numbers = _embedding_of_numbers(num_embeddings, prepare.n_numbers, x)
        layers = _embedded(prepare, numbers)
        width = sum(layer.out_features for layer in layers) or prepare.width
        layers.append(Scale(width))
        for _ in range(3):
            layers += [
                nn.Linear(width, self.width, parametrization="ntk"),
                ParametricActivation(self.width, activation),
                nn.Dropout(0.15),
            ]
            width = self.width
        layers.append(nn.Linear(width, task.outputs, parametrization="ntk"))
        model = Sequential(*layers, seed=seed)
        rng = np.random.default_rng(seed)
        some = x if len(x) <= _ROWS else x[rng.choice(len(x), _ROWS, replace=False)]
        initialize(model, "unit_variance", bias="he+5", x=some, seed=seed)
        return Plan(
            model,
            self._optimizer(model, 0.2 if is_regression else 0.04),
            CosLogLR(updates, per="iteration"),
            (WeightDecaySchedule(FlatCosineLR(epochs)), DropoutSchedule(FlatCosineLR(epochs))),
            tuple(name for name in model.named_parameters() if _is_table(name)),
        )

    def _optimizer(self, model: Sequential, rate: float) -> AdamW:
        """Give each kind of parameter its rate and its decay, which AdamW multiplies by the rate."""
        kinds = {type(leaf).__name__ for leaf in leaves_of(model.layers).values()}
        slow = dict.fromkeys(kinds & _SLOW, 0.1)
        groups = parameter_groups(
            model,
            rate,
            0.02,
            lr_factors={"Scale": 6, "bias": 0.1} | slow,
            weight_decay_factors={"Scale": 6, "bias": 0} | slow,
        )
        return AdamW(groups, betas=(0.9, 0.95))


def _embedding_of_numbers(kind: str | None, n: int, x: Array) -> Any:
    """Return the layer that embeds the first n columns of rows like x, None if nothing does."""
    if not n or kind is None:
        return None
    if kind == "pbld":
        return PBLDEmbeddings(n)
    bins = compute_bins(x[:, :n], max(2, min(_BINS, len(x) - 1)))
    return PiecewiseLinearEmbeddings(bins, _OF_NUMBER, activation=False, version="B")


def _embedded(prepare: Preparation, numbers: Any) -> list[Any]:
    """Return the layer that embeds numbers, by a layer or not at all, and categories, if there are any."""
    begin, width = sum(prepare.blocks), prepare.width
    branches: list[tuple[Any, slice]] = []
    last = 0 if numbers is None else prepare.n_numbers
    if numbers is not None:
        branches.append((numbers, slice(0, last)))
    if begin > last:
        branches.append(([], slice(last, begin)))
    if prepare.cardinalities:
        tables = CategoricalEmbeddings(prepare.cardinalities, _OF_CATEGORY)
        branches.append((tables, slice(begin, width)))
    if numbers is None and not prepare.cardinalities:
        return []
    layers, columns = zip(*branches, strict=True)
    return [Parallel(*layers, columns=columns, in_features=width)]


def _is_table(name: str) -> bool:
    """Whether a parameter is a table of embeddings: of a branch of the first layer."""
    return _TABLE.fullmatch(name) is not None


class TabM:
    """TabM of Gorishniy, Kotelnikov, Babenko (ICLR 2025): members that share weights."""

    epochs = 500
    patience: int | None = 16
    label_smoothing = 0.0
    clips_values = False
    k = 32
    width = 512
    most_one_hot = 256
    max_categories: int | None = 256
    by_ranks = True
    embeds_numbers: str | None = None

    def batch_size(self, rows: int) -> int:
        """Return the rows of a batch."""
        for size, least in ((1024, 108000), (512, 32000), (256, 6400), (128, 4500), (64, 2800)):
            if rows >= least:
                return size
        return 32

    def plan(
        self,
        prepare: Preparation,
        x: Array,
        task: Task,
        updates: int,  # noqa: ARG002
        epochs: int,  # noqa: ARG002
        seed: int,
        *,
        num_embeddings: str | None,
    ) -> Plan:
        """Make the network for rows like x."""
        width, scaling, chunks, blocks = prepare.width, _SIGNS, prepare.blocks, 3
        numbers = _embedding_of_numbers(num_embeddings, prepare.n_numbers, x)
        layers = _embedded(prepare, numbers)
        if numbers is not None:
            n = prepare.n_numbers
            width, scaling, blocks = layers[0].out_features, _NORMAL, 2
            chunks = [numbers.d_embedding] * n + chunks[n:]
        for _ in range(blocks):
            layers += [
                LinearBatchEnsemble(
                    width, self.width, self.k, scaling_init=scaling, chunks=chunks or None
                ),
                nn.ReLU(),
                nn.Dropout(0.1),
            ]
            width, scaling, chunks = self.width, _ONES, []
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
