"""What crosses to the native network: descriptions whose fields C++ reads by name.

`cpp/bindings/specs.hpp` and `layer_specs.hpp` have a reader for each, which raises for another class, a field that it does
not know, and an array that is not as it must be. They are tuples since these cannot be changed: a
native object that keeps a description keeps alive all arrays that it reads and writes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from dlcore._common.typing import Array

# ---- layers --------------------------------------------------------------------------------------


class LinearSpec(NamedTuple):
    """``y = x @ weight.T + bias``; ``max_norm`` of the weights of an output, 0 for any.

    Without an array for its gradient a parameter is not trained. The first layer of a network
    ``reads_sparse`` rows as they are, and no others; its arrays may be ``is_input_major``, of shape
    (in_features, out_features).
    """

    in_features: int
    out_features: int
    weight: Array
    bias: Array | None
    max_norm: float = 0.0
    weight_grad: Array | None = None
    bias_grad: Array | None = None
    reads_sparse: bool = False
    is_input_major: bool = False


class LayerNormSpec(NamedTuple):
    """Normalization of each row; unless it ``is_centered``, by the mean square alone.

    ``eps`` is None for the machine epsilon of the dtype.
    """

    features: int
    weight: Array | None
    bias: Array | None
    eps: float | None
    is_centered: bool = True
    weight_grad: Array | None = None
    bias_grad: Array | None = None


class BatchNormSpec(NamedTuple):
    """Normalization of each feature over the batch.

    ``momentum`` is None for running statistics that are the mean over all batches; ``is_frozen``
    statistics count in training, too, and stay as they are.
    """

    features: int
    weight: Array | None
    bias: Array | None
    eps: float
    momentum: float | None
    running_mean: Array | None
    running_var: Array | None
    num_batches_tracked: Array
    is_frozen: bool
    weight_grad: Array | None = None
    bias_grad: Array | None = None


class DropoutSpec(NamedTuple):
    """Elements that are 0 with probability ``p``; ``stream`` tells layers of a network apart."""

    features: int
    p: float
    stream: int


class ActivationSpec(NamedTuple):
    """An activation by the name of its kernel, with the options in the order that this takes."""

    features: int
    kernel: str
    options: tuple[float, ...] = ()


class ParametricActivationSpec(NamedTuple):
    """``x + weight * (f(x) - x)`` of an activation f, by None ``weight * x`` where x is not above 0.

    There is a weight of each feature, or ``is_shared`` by all of them.
    """

    features: int
    is_shared: bool
    weight: Array
    activation: ActivationSpec | None
    weight_grad: Array | None = None


class MemberScaleSpec(NamedTuple):
    """``y = x * weight[m] + bias[m]`` of each member; ``expands``: a row goes to all of them."""

    features: int
    members: int
    weight: Array | None
    bias: Array | None
    expands: bool
    weight_grad: Array | None = None
    bias_grad: Array | None = None


class MemberLinearSpec(NamedTuple):
    """``y = x @ weight[m].T + bias[m]`` of each member, weights of shape (members, out, in)."""

    in_features: int
    out_features: int
    members: int
    weight: Array
    bias: Array | None
    expands: bool
    weight_grad: Array | None = None
    bias_grad: Array | None = None


class MemberMeanSpec(NamedTuple):
    """The end of the members: the mean of their "outputs", of their "softmax" or "sigmoid"."""

    features: int
    members: int
    mean: str


class FeatureLinearSpec(NamedTuple):
    """A linear layer of each feature, of ``own_in`` to ``own_out`` columns.

    Weights have shape (features, own_in, own_out), or that of a `LinearSpec` where one ``is_shared``.
    """

    features: int
    own_in: int
    own_out: int
    weight: Array
    bias: Array | None
    is_shared: bool
    weight_grad: Array | None = None
    bias_grad: Array | None = None


class EmbeddingSpec(NamedTuple):
    """Rows of tables by the codes in columns of x, side by side or added to each other and a bias.

    The tables lie one below the other, with as many rows as ``sizes`` says and one more for NaN where
    ``missing`` is "category"; otherwise it is an "error", or a row of "zeros".
    """

    embedding_dim: int
    sizes: tuple[int, ...]
    weight: Array
    bias: Array | None
    missing: str
    is_sum: bool
    weight_grad: Array | None = None
    bias_grad: Array | None = None


class PeriodicSpec(NamedTuple):
    """``cos(2 pi w x)`` and ``sin(2 pi w x)`` of each feature, or, with a bias, ``cos(2 pi w x + b)``."""

    features: int
    frequencies: int
    weight: Array
    bias: Array | None
    weight_grad: Array | None = None
    bias_grad: Array | None = None


class PiecewiseLinearSpec(NamedTuple):
    """``(x - lower) * scale`` of each bin of each feature, kept between ``low`` and ``high``."""

    features: int
    bins: int
    lower: Array
    scale: Array
    low: Array
    high: Array


class MissingSpec(NamedTuple):
    """NaN as 0 and all else as it is; or, ``indicates``, 1 for NaN and 0 for all else."""

    features: int
    indicates: bool


class OwnLayerSpec(NamedTuple):
    """A layer that is computed in Python, with arrays of rows.

    ``forward(x)`` returns the outputs and ``backward(dy, x)`` the gradient of x and, in a tuple with
    it, that of each parameter, or None where it has none: arrays in C order of the network's dtype.
    """

    in_features: int
    out_features: int
    forward: Callable[[Array], Array]
    backward: Callable[[Array, Array], tuple[Array | None, ...]]
    parameters: tuple[Array, ...]
    grads: tuple[Array | None, ...]


class BranchSpec(NamedTuple):
    """Layers over columns [begin, end) of an input; without any, these as they are."""

    begin: int
    end: int
    layers: tuple[Any, ...]  # of LayerSpec


class ParallelSpec(NamedTuple):
    """Branches over one input, whose outputs are summed or lie side by side."""

    features: int
    branches: tuple[BranchSpec, ...]
    is_sum: bool


LayerSpec: TypeAlias = (
    LinearSpec
    | LayerNormSpec
    | BatchNormSpec
    | DropoutSpec
    | ActivationSpec
    | ParametricActivationSpec
    | MemberScaleSpec
    | MemberLinearSpec
    | MemberMeanSpec
    | FeatureLinearSpec
    | PeriodicSpec
    | PiecewiseLinearSpec
    | MissingSpec
    | EmbeddingSpec
    | OwnLayerSpec
    | ParallelSpec
)

# ---- losses --------------------------------------------------------------------------------------


class CrossEntropySpec(NamedTuple):
    """Of class indices (``takes_labels``) or of class probabilities."""

    width: int
    takes_labels: bool
    weight: Array | None
    ignore_index: int
    label_smoothing: float


class ElementwiseLossSpec(NamedTuple):
    """A loss of each element by the name of its kernel.

    ``option`` is the one number that it takes, ``columns`` the array with a number for each column.
    """

    width: int
    kernel: str
    option: float | None = None
    columns: Array | None = None


class FocalSpec(NamedTuple):
    """``(1 - p) ** gamma`` times another loss, -log(p)."""

    width: int
    loss: CrossEntropySpec | ElementwiseLossSpec
    gamma: float


class TargetSpec(NamedTuple):
    """One of several losses: its columns of the targets and its weight."""

    loss: CrossEntropySpec | ElementwiseLossSpec | FocalSpec
    target_width: int
    weight: float


class JointSpec(NamedTuple):
    """The weighted sum of several losses, each of some columns of the outputs."""

    width: int
    targets: tuple[TargetSpec, ...]


LossSpec: TypeAlias = CrossEntropySpec | ElementwiseLossSpec | FocalSpec | JointSpec

# ---- optimizers ----------------------------------------------------------------------------------


class SGDSpec(NamedTuple):
    """Options of a parameter group.

    ``penalty`` is an L2 penalty that is part of the loss of a batch, divided by its normalizer;
    ``is_first`` says that the momentum buffers are still to be set.
    """

    lr: float
    momentum: float
    dampening: float
    weight_decay: float
    nesterov: bool
    maximize: bool
    l1: float
    penalty: float
    is_first: bool


class AdamSpec(NamedTuple):
    """Options of a parameter group.

    ``raw_eps`` is added before the root is corrected.
    """

    lr: float
    beta1: float
    beta2: float
    eps: float
    weight_decay: float
    decoupled: bool
    maximize: bool
    l1: float
    penalty: float
    raw_eps: bool


class SGDState(NamedTuple):
    """The state of a parameter."""

    momentum_buffer: Array | None


class AdamState(NamedTuple):
    """The state of a parameter."""

    exp_avg: Array
    exp_avg_sq: Array
    max_exp_avg_sq: Array | None


class ParameterSpec(NamedTuple):
    """A parameter that is trained: ``name`` of a layer, with its state and its running average.

    Layers are counted as they are described, those of branches as well, and not the branches.
    """

    layer: int
    name: str
    group: int
    state: SGDState | AdamState | None
    average: Array | None


# ---- an epoch ------------------------------------------------------------------------------------


class CompressedRowsSpec(NamedTuple):
    """A sparse matrix in compressed rows."""

    data: Array
    indices: Array
    indptr: Array
    width: int


class UpdateSpec(NamedTuple):
    """How parameters are updated. A native step reads it once, and the same object not again."""

    optimizer: tuple[SGDSpec | AdamSpec, ...]
    parameters: tuple[ParameterSpec, ...]
    max_norm: float
    clip_value: float
    average_decay: float


class EpochSpec(NamedTuple):
    """The mini-batches of an epoch, and where what they give goes.

    Batch i is ``order[offsets[i] : offsets[i + 1]]``. ``steps`` are those that the parameters of each
    group of the update have made before. `BatchPlan` has the meaning of the
    fields that it shares, `TrainingStep` that of the others.
    """

    x: Array | CompressedRowsSpec
    y: Array
    weight: Array | None
    order: Array
    offsets: Array
    normalizers: Array
    accumulation_weights: Array
    loss_factors: Array | None
    accumulate: int
    ends_update: bool
    gradient_scale: float
    key: int
    update: UpdateSpec
    steps: tuple[int, ...]
    learning_rates: Array | None
    outputs: Array | None
    losses: Array
    squared_norms: Array | None
    seconds: float
    between: Callable[[int], object]
