"""Signatures of the extension modules: `_isa.core` is one of them.

They check and compute; the public functions of dlcore give them names, defaults and documentation.
All arguments are positional.
"""

from collections.abc import Callable
from typing import Any

from dlcore._common.typing import Array
from dlcore._native.specs import (
    BatchNormSpec,
    CompressedRowsSpec,
    EpochSpec,
    LayerNormSpec,
    LayerSpec,
    LossSpec,
    ParameterSpec,
)

isa: str
version: str
compiler: str
openmp: bool
register_bytes: int

can_flush_denormals: bool

# Threads: of regions that this thread opens; 0 stands for none.
def get_num_threads() -> int: ...
def set_default_num_threads(n: int) -> None: ...
def set_num_threads(n: int) -> None: ...
def process_num_threads() -> int: ...
def exchange_own_num_threads(n: int) -> int: ...
def num_processors() -> int: ...
def thread_limit() -> int: ...

# Whether kernels that this thread calls take subnormal numbers for 0.
def exchange_flushing(flush: bool) -> bool: ...

# Vector mathematics, for its tests.
def exp(x: Array, out: Array | None) -> Array: ...
def expm1(x: Array, out: Array | None) -> Array: ...
def log(x: Array, out: Array | None) -> Array: ...
def log1p(x: Array, out: Array | None) -> Array: ...
def normal_cdf(x: Array, out: Array | None) -> Array: ...

# The elementwise activations, those of kernels/activations.inc: ``y = f(x, *options, out)`` and
# ``dx = f_backward(dy, x, *options, out)``.
def __getattr__(name: str) -> Callable[..., Array]: ...

# The list of them: options with their defaults, and the Lipschitz constant with these.
def activations() -> dict[str, tuple[dict[str, float], float]]: ...

# Softmax.
def softmax(x: Array, axis: int, out: Array | None) -> Array: ...
def softmax_backward(dy: Array, y: Array, axis: int, out: Array | None) -> Array: ...
def log_softmax(x: Array, axis: int, out: Array | None) -> Array: ...
def log_softmax_backward(dy: Array, y: Array, axis: int, out: Array | None) -> Array: ...
def logsumexp(x: Array, axis: int) -> Array: ...

# Logits of shape (N, classes) as probabilities, in place; of shape (N, 1) as those of two classes.
def class_probabilities(logits: Array) -> Array: ...
def binary_probabilities(logits: Array) -> Array: ...

# Losses: (loss, grad) where with_grad, else the loss. The list of the elementwise ones: options with
# their defaults, and the name of a third input.
def losses() -> dict[str, tuple[dict[str, float], str | None]]: ...

# Whether all elements are in [0, 1] or NaN; the names are for messages.
def all_probabilities(function: str, name: str, x: Array) -> bool: ...
def are_classes(y: Array, classes: int, /) -> bool: ...
def cross_entropy(
    logits: Array,
    target: Array,
    weight: Array | None,
    ignore_index: int,
    label_smoothing: float,
    reduction: str,
    with_grad: bool,
    out: Array | None,
) -> Any: ...
def nll_loss(
    input: Array,
    target: Array,
    weight: Array | None,
    ignore_index: int,
    reduction: str,
    with_grad: bool,
    out: Array | None,
) -> Any: ...
def binary_cross_entropy(
    input: Array,
    target: Array,
    weight: Array | None,
    reduction: str,
    with_grad: bool,
    out: Array | None,
) -> Any: ...
def binary_cross_entropy_with_logits(
    logits: Array,
    target: Array,
    weight: Array | None,
    pos_weight: Array | None,
    reduction: str,
    with_grad: bool,
    out: Array | None,
) -> Any: ...
def mse_loss(
    input: Array,
    target: Array,
    weight: Array | None,
    reduction: str,
    with_grad: bool,
    out: Array | None,
) -> Any: ...
def l1_loss(
    input: Array,
    target: Array,
    weight: Array | None,
    reduction: str,
    with_grad: bool,
    out: Array | None,
) -> Any: ...
def smooth_l1_loss(
    input: Array,
    target: Array,
    beta: float,
    weight: Array | None,
    reduction: str,
    with_grad: bool,
    out: Array | None,
) -> Any: ...
def huber_loss(
    input: Array,
    target: Array,
    delta: float,
    weight: Array | None,
    reduction: str,
    with_grad: bool,
    out: Array | None,
) -> Any: ...
def poisson_nll_loss(
    input: Array,
    target: Array,
    weight: Array | None,
    reduction: str,
    with_grad: bool,
    out: Array | None,
) -> Any: ...
def quantile_loss(
    input: Array,
    target: Array,
    quantile: Array,
    weight: Array | None,
    reduction: str,
    with_grad: bool,
    out: Array | None,
) -> Any: ...
def kl_div(
    input: Array,
    target: Array,
    weight: Array | None,
    reduction: str,
    log_target: bool,
    with_grad: bool,
    out: Array | None,
) -> Any: ...

# Optimizers: one call for all parameters. A part is ((numbers of the parameters, parameters, lists of
# state, options), steps made, what is new of the state); False for a gradient that is None.
def sgd_step(grads: list[Any], parts: list[tuple[Any, ...]]) -> bool: ...
def adam_step(grads: list[Any], parts: list[tuple[Any, ...]]) -> bool: ...
def check_gradients(function: str, params: list[Array], grads: list[Any]) -> list[Array | None]: ...
def clip_grad_norm(
    grads: list[Any], max_norm: float, norm_type: float, error_if_nonfinite: bool
) -> float: ...

# Normalization.
# Count, mean, variance, least, largest, what the mean lost in rounding; whether no square over- or
# underflowed.
def column_stats(function: str, x: Array, /) -> tuple[Array, Array, Array, bool]: ...
def column_extremes(function: str, x: Array, /) -> tuple[Array, Array, bool]: ...
def affine_columns(
    function: str,
    x: Array,
    map: Array,
    low: float,
    high: float,
    out: Array | None,
    finite: bool,
    /,
) -> Any: ...

# The linear layer.
def linear(
    x: Array, weight: Array, bias: Array | None, activation: str | None, out: Array | None
) -> Array: ...
def linear_backward(dy: Array, x: Array, weight: Array) -> tuple[Array, Array, Array]: ...

# Sparse matrices in compressed rows: whether columns ascend, and the same with those that do.
def rows_ascend(name: str, indices: Array, indptr: Array, elements: int, width: int) -> bool: ...
def sort_rows(data: Array, indices: Array, indptr: Array) -> tuple[Array, Array, Array]: ...

# Networks, as dlcore._native.specs describes them.
def normalize(spec: BatchNormSpec | LayerNormSpec, x: Array, y: Array) -> None: ...
def normalize_backward(
    spec: BatchNormSpec | LayerNormSpec, dy: Array, x: Array, dx: Array
) -> None: ...

class Network:
    def __init__(
        self, is_double: bool, layers: tuple[LayerSpec, ...], is_fixed: bool = False
    ) -> None: ...
    def infer(self, x: Any, finite: bool = False) -> Array | None: ...
    def infer_sparse(self, x: CompressedRowsSpec) -> Array: ...

class Passes:
    def __init__(
        self, is_double: bool, layers: tuple[LayerSpec, ...], most_rows: int, key: int
    ) -> None: ...
    # None for an array that is not as it should be.
    def forward(self, x: Any) -> Array | None: ...
    def backward(self, dy: Any, add: bool) -> Array | None: ...
    @property
    def rows(self) -> int: ...
    @property
    def key(self) -> int: ...

class TrainingStep:
    def __init__(
        self,
        is_double: bool,
        layers: tuple[LayerSpec, ...],
        batch_size: int,
        loss: LossSpec | None,
        accumulate: bool,
    ) -> None: ...
    def forward(
        self, x: Array | CompressedRowsSpec, indices: Array, outputs: Array, key: int
    ) -> bool: ...
    def backward(self, gradient: Array) -> None: ...
    def finish_update(
        self, parameters: tuple[ParameterSpec, ...], average_decay: float
    ) -> None: ...
    # Of the last run: the batches that were completed, and the updates that were made.
    @property
    def batches(self) -> int: ...
    @property
    def updates(self) -> int: ...
    # Whether gradients wait for an update; goes on with those that another step has left.
    @property
    def is_pending(self) -> bool: ...
    def resume(self) -> None: ...
    def forget(self) -> None: ...
    def undo(self) -> None: ...
    def share_with(
        self,
        rank: int,
        size: int,
        gather: Callable[[memoryview, memoryview], object] | Callable[[], object],
        message: float,
        byte: float,
        memory: tuple[Array, ...],
    ) -> None: ...
    # What went wrong: "loss", "gradient", "parameters" or "label", or "".
    def run(self, epoch: EpochSpec) -> str: ...
    # The loss of one batch by the update of the last run, or None where only `run` can tell.
    def run_batch(
        self,
        x: Any,
        y: Any,
        key: int,
        steps: int,
        scale: float = 1.0,
        squared_norms: Array | None = None,
    ) -> float | None: ...
