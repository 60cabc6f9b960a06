"""Kernels beside what would be used in their place.

An entry of ``KERNELS`` says how inputs are drawn, what the true result is, how much memory moves,
and gives for each shape the ratios "must" and "aim" of the best peer's time to dlcore's. Every peer
files its calls under the kernel's name.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.harness.report import best_peer, number
from benchmarks.harness.suite import Prepared, Suite
from benchmarks.harness.timing import calibrate
from benchmarks.settings import BETAS, EPS, LR, MOMENTUM

DTYPES = ("float32", "float64")
WIDER = {np.dtype(np.float32): np.float64, np.dtype(np.float64): np.longdouble}
LARGE = 10**7  # elements, from which on the speed is set beside that of plain memory streams
WAY_SECONDS = 0.03  # of calls, to find the fastest way
STEPS = 3  # calls before a result is looked at: optimizers shall have a history by then

Results = list[tuple[np.ndarray, np.ndarray | float]]


@dataclass(frozen=True)
class Kernel:
    """What is computed."""

    name: str
    draw: Callable[..., tuple[np.ndarray, ...]]
    # Results in the dtype of the inputs. Where one is a difference, the size of its terms stands
    # beside it: its ULP is taken there.
    truth: Callable[..., Results]
    moved: int  # reads and writes of memory for each element
    stream: str  # the plain stream that moves memory in the same way
    targets: dict[tuple[int, ...], tuple[float, float]]  # (must, aim) for each shape


@dataclass(frozen=True)
class Case:
    """A kernel on one shape."""

    kernel: Kernel
    shape: tuple[int, ...]
    must: float
    aim: float

    @property
    def name(self) -> str:
        """Kernel and shape, such as ``relu 1000``."""
        return f"{self.kernel.name} {'x'.join(map(str, self.shape))}"

    @property
    def large(self) -> bool:
        """Whether memory decides."""
        return math.prod(self.shape) >= LARGE

    def inputs(self, dtype) -> tuple[np.ndarray, ...]:
        """Draw the inputs, the same ones in every process."""
        return self.kernel.draw(np.random.default_rng(0), self.shape, np.dtype(dtype))

    def truth(self, inputs) -> Results:
        """Compute the results in the next wider dtype."""
        return self.kernel.truth(*(x.astype(WIDER.get(x.dtype, x.dtype)) for x in inputs))

    def bytes(self, dtype) -> int:
        """Return the bytes that a call reads and writes at the least."""
        return self.kernel.moved * math.prod(self.shape) * np.dtype(dtype).itemsize


def draw_normal(rng, shape, dtype):
    return (rng.standard_normal(shape, dtype),)


def draw_pair(rng, shape, dtype):
    return rng.standard_normal(shape, dtype), rng.standard_normal(shape, dtype)


def draw_classes(rng, shape, dtype):
    return 3 * rng.standard_normal(shape, dtype), rng.integers(shape[1], size=shape[0])


def draw_binary(rng, shape, dtype):
    return 3 * rng.standard_normal(shape, dtype), rng.integers(2, size=shape).astype(dtype)


def draw_table(rng, shape, dtype):
    return (2 * rng.standard_normal(shape, dtype) + 5,)


def draw_z_score(rng, shape, dtype):
    """Return a table with the mean and the deviation of its columns."""
    (x,) = draw_table(rng, shape, dtype)
    return x, x.mean(0, np.float64).astype(dtype), x.std(0, np.float64).astype(dtype)


def draw_min_max(rng, shape, dtype):
    """Return a table with the minimum and the range of its columns."""
    (x,) = draw_table(rng, shape, dtype)
    return x, x.min(0), np.ptp(x, 0)


def cross_entropy_and_grad(logits, target):
    rows = np.arange(len(logits))
    largest = logits.max(1, keepdims=True)
    grad = np.exp(logits - largest)
    total = grad.sum(1, keepdims=True)
    loss = np.mean(np.log(total) + largest - logits[rows, target, None])
    grad /= total * len(logits)
    hot = np.zeros_like(grad)
    hot[rows, target] = 1 / len(logits)
    grad -= hot
    return [(loss, 0.0), (grad, hot)]


def bce_with_logits_and_grad(logits, target):
    small = np.exp(-np.abs(logits))
    loss = np.mean(np.maximum(logits, 0) - logits * target + np.log1p(small))
    sigmoid = np.where(logits >= 0, 1, small) / (1 + small)
    return [(loss, 0.0), ((sigmoid - target) / target.size, target / target.size)]


def relu(x):
    return [(np.maximum(x, 0), 0.0)]


def relu_backward(dy, x):
    return [(np.where(x > 0, dy, 0), 0.0)]


def optimized(update, params, grads):
    """Return each parameter after its updates; it cancels with them."""
    after = params.copy()
    update(after, grads)
    return list(zip(after, np.abs(params) + np.abs(after - params), strict=True))


def adam(p, g):
    m, v = np.zeros_like(p), np.zeros_like(p)
    for t in range(1, STEPS + 1):
        m = BETAS[0] * m + (1 - BETAS[0]) * g
        v = BETAS[1] * v + (1 - BETAS[1]) * g * g
        root = np.sqrt(v / (1 - BETAS[1] ** t)) + EPS
        p -= LR / (1 - BETAS[0] ** t) * m / root


def sgd_momentum(p, g):
    velocity = np.zeros_like(p)
    for _ in range(STEPS):
        velocity = MOMENTUM * velocity + g
        p -= LR * velocity


def z_score_fit(x):
    return [(x.mean(0), 0.0), (x.var(0), 0.0)]


def min_max_fit(x):
    return [(x.min(0), 0.0), (x.max(0), 0.0)]


def z_score_transform(x, *_):
    scale = x.std(0)
    return [((x - x.mean(0)) / scale, np.abs(x) / scale)]


def min_max_transform(x, *_):
    scale = np.ptp(x, 0)
    return [((x - x.min(0)) / scale, np.abs(x) / scale)]


SMALL, MIDDLE, GREAT = (10**3,), (10**5,), (10**7,)
ONE_SMALL, ONE_MIDDLE, ONE_GREAT, MANY = (1, 10**3), (1, 10**5), (1, 10**7), (100, 10**3)
TABLES = (100, 10), (10_000, 32), (1_000_000, 32)


def tables(*targets):
    return dict(zip(TABLES, targets, strict=True))


KERNELS = [
    Kernel(
        "cross_entropy_and_grad",
        draw_classes,
        cross_entropy_and_grad,
        moved=2,
        stream="copy",
        targets={
            (32, 10): (9, 12),
            (8192, 3): (4, 6),
            (8192, 10): (6, 8),
            (65536, 10): (5, 6),
            (8192, 17): (4, 6),
            (8192, 37): (4, 6),
            (4096, 1000): (3, 3.5),
            (4096, 1001): (3, 3.5),
            (1024, 50257): (5, 6),
        },
    ),
    Kernel(
        "bce_with_logits_and_grad",
        draw_binary,
        bce_with_logits_and_grad,
        moved=3,
        stream="copy",
        targets={SMALL: (9, 15), MIDDLE: (6, 10), GREAT: (6, 9)},
    ),
    Kernel(
        "relu",
        draw_normal,
        relu,
        moved=2,
        stream="copy",
        targets={SMALL: (1.2, 2), MIDDLE: (1, 1.2), GREAT: (1, 1.1)},
    ),
    Kernel(
        "relu_backward",
        draw_pair,
        relu_backward,
        moved=3,
        stream="copy",
        targets={SMALL: (1.5, 3), MIDDLE: (1.3, 2), GREAT: (1.2, 1.3)},
    ),
    Kernel(  # of optimizers the shape is (arrays, elements of each)
        "adam_step",
        draw_pair,
        lambda p, g: optimized(adam, p, g),
        moved=7,
        stream="scale",
        targets={ONE_SMALL: (7, 9), ONE_MIDDLE: (2, 3), ONE_GREAT: (1, 1.1), MANY: (10, 20)},
    ),
    Kernel(
        "sgd_momentum_step",
        draw_pair,
        lambda p, g: optimized(sgd_momentum, p, g),
        moved=5,
        stream="scale",
        targets={ONE_SMALL: (2, 4), ONE_MIDDLE: (2, 3), ONE_GREAT: (1, 1.1), MANY: (10, 20)},
    ),
    Kernel(
        "z_score_fit",
        draw_table,
        z_score_fit,
        moved=1,
        stream="read",
        targets=tables((3.5, 5), (3.5, 5), (1.8, 2.8)),
    ),
    Kernel(
        "min_max_fit",
        draw_table,
        min_max_fit,
        moved=1,
        stream="read",
        targets=tables((2.5, 4), (2.5, 3), (1.5, 2.2)),
    ),
    Kernel(
        "z_score_transform",
        draw_z_score,
        z_score_transform,
        moved=2,
        stream="copy",
        targets=tables((1.5, 3), (1.6, 2), (1.6, 2)),
    ),
    Kernel(
        "min_max_transform",
        draw_min_max,
        min_max_transform,
        moved=2,
        stream="copy",
        targets=tables((1.5, 3), (1.6, 2), (1.6, 2)),
    ),
]

CASES = {
    case.name: case
    for kernel in KERNELS
    for shape, (must, aim) in kernel.targets.items()
    for case in [Case(kernel, shape, must, aim)]
}


class Kernels(Suite):
    title = "Time kernels beside other libraries; --registry: all of them, beside the reference."
    peers = ("numpy", "sklearn", "torch", "torch_compile", "jax", "reference")
    limits = ("stream",)
    has_targets = True

    def add_arguments(self, parser):
        parser.add_argument("--dtype", choices=DTYPES, help="float32; of --registry both")
        parser.add_argument(
            "--registry", action="store_true", help="the kernels that the tests know, not a choice"
        )

    def complete(self, options, parser):
        if options.dtype is None and not options.registry:
            options.dtype = DTYPES[0]

    def cases(self, options):
        return list(registered(options.dtype)) if options.registry else list(CASES)

    def libraries(self, options):
        return [
            "dlcore",
            *(name for name in options.peers if (name == "reference") == options.registry),
            *(() if options.registry else self.limits),
        ]

    def takes(self, library, case, options):
        return library != "stream" or (not options.registry and CASES[case].large)

    def targets(self, case, options):
        if options.registry or options.dtype != DTYPES[0]:
            return None, None
        return CASES[case].must, CASES[case].aim

    def prepare(self, peer, case, options):
        if options.registry:
            return prepare_registered(peer, *registered(options.dtype)[case])
        return prepare_fastest(peer, CASES[case], options.dtype)

    def fields(self, case, variant, times, library):
        fields = super().fields(case, variant, times, library)
        if case in CASES and fields.get("bytes"):
            stream = times["stream"].median if "stream" in times else None
            fields["bytes_per_second"] = fields["bytes"] / times[library].median
            fields["stream"] = CASES[case].kernel.stream
            fields["share_of_stream"] = stream and stream / times[library].median
        return fields

    def cells(self, rows):
        ours, best = rows["dlcore"], best_peer(rows)
        ulp = {name: rows[name].get("ulp") for name in ("dlcore", best) if name}
        cells = {"dlcore, ULP": "", "peer, ULP": ""}
        for title, name in zip(cells, ulp, strict=False):
            cells[title] = "" if ulp[name] is None else f"{ulp[name]:.1f}"
        share = ours.get("share_of_stream")
        cells["GB/s"] = number(ours["bytes_per_second"] / 1e9) if share else ""
        cells["of stream"] = f"{share:.0%} of {ours['stream']}" if share else ""
        return cells


def as_tuple(results):
    return tuple(results) if isinstance(results, tuple | list) else (results,)


def prepare_fastest(peer, case, dtype):
    """Make the fastest of a library's ways ready."""
    best = None
    inputs = case.inputs(dtype)
    for way, prepare_call in getattr(peer, "KERNELS", {}).get(case.kernel.name, {}).items():
        call = prepare_call(*inputs)
        seconds, _ = calibrate(call, WAY_SECONDS)
        if best is None or seconds < best[0]:
            best = seconds, way, call, prepare_call
    if best is None:
        return None
    _, way, call, prepare_call = best
    info = {"way": way, "dtype": dtype, "bytes": case.bytes(dtype)}
    return Prepared({"": call}, info=info, check=lambda: error_of(peer, case, dtype, prepare_call))


def error_of(peer, case, dtype, prepare_call):
    """Return the largest error of all results, in ULP, from inputs that no other call changed."""
    from support.ulp import ulp_distance

    if not hasattr(peer, "to_numpy"):
        return {}
    inputs = case.inputs(dtype)
    call = prepare_call(*inputs)
    for _ in range(STEPS):
        results = call()
    errors = [
        np.max(ulp_distance(peer.to_numpy(result).astype(dtype), truth, size))
        for result, (truth, size) in zip(as_tuple(results), case.truth(inputs), strict=True)
    ]
    return {"ulp": float(max(errors))}


def registered(dtype):
    """Return the cases of the tests' registry by name, as (case, shape, dtype)."""
    from support.cases import CASES

    return {
        f"{case!r} {'x'.join(map(str, shape))} {kind}": (case, shape, kind)
        for case in CASES
        for shape in case.benchmarks
        for kind in DTYPES
        if dtype in (None, kind)
    }


def prepare_registered(peer, case, shape, dtype):
    """Make the library's kernel of that name ready."""
    from support.cases import results, sample

    if not hasattr(peer, "functions"):
        return None
    inputs = case.inputs(shape, dtype)
    call = case.bound(inputs, peer.functions)

    def check():
        own, truth = sample(case, shape, dtype)
        return {"ulp": case.error(results(case.bound(own, peer.functions)()), own, truth)}

    return Prepared({"": call}, batch_seconds=0.01, info={"dtype": dtype}, check=check)


SUITE = Kernels()
