"""What subnormal numbers cost: inputs whose results or intermediate results are subnormal."""

from functools import partial

import numpy as np

import dlcore

N = 100_000
COLUMNS = 10


def uniform(low, high):
    """Draw numbers between two."""
    return lambda rng: rng.uniform(low, high, N).astype(np.float32)


def normal(scale):
    """Draw normal numbers."""
    return lambda rng: (scale * rng.standard_normal(N)).astype(np.float32)


INPUTS = {
    "normal": normal(1),
    "normal, times 3": normal(3),
    "normal, times 40": normal(40),
    "-100 to 100": uniform(-100, 100),
    "-103 to -87": uniform(-103, -87),
    "87 to 103": uniform(87, 103),
    "-14.4 to -13.2": uniform(-14.4, -13.2),  # x^2 / 2 is 87 to 104
    "-1000 to -200": uniform(-1000, -200),
    "each second -inf": lambda rng: np.where(np.arange(N) % 2, rng.normal(size=N), -np.inf).astype(
        np.float32
    ),
    "1e-40": lambda rng: (1e-40 * rng.uniform(0.1, 1, N)).astype(np.float32),
}


def calls(x):
    """Return a call of each kernel on these numbers."""
    out, rows = np.empty_like(x), x.reshape(-1, COLUMNS)
    labels = np.arange(len(rows)) % COLUMNS
    dy, target = np.ones_like(x), (np.arange(x.size) % 2).astype(x.dtype)
    kernels = {
        name: partial(getattr(dlcore, name), x, out=out)
        for name in ("relu", "gelu", "sigmoid", "silu", "tanh", "elu", "softplus")
    }
    kernels |= {
        f"{name}_backward": partial(getattr(dlcore, f"{name}_backward"), dy, x, out=out)
        for name in ("gelu", "sigmoid")
    }
    kernels["bce_with_logits"] = partial(
        dlcore.binary_cross_entropy_with_logits_and_grad, x, target, out=out
    )
    kernels["softmax"] = partial(dlcore.softmax, rows, out=out.reshape(rows.shape))
    kernels["cross_entropy"] = partial(
        dlcore.cross_entropy_and_grad, rows, labels, out=out.reshape(rows.shape)
    )
    long = rows.reshape(-1, 1000)
    kernels["cross_entropy x1000"] = partial(
        dlcore.cross_entropy_and_grad, long, labels[: len(long)], out=out.reshape(long.shape)
    )
    adam = dlcore.Adam([dy.copy()])
    kernels["Adam"] = lambda: adam.step([x])
    return kernels


NAMES = tuple(calls(np.ones(N, np.float32)))


def calls_of(kernel):
    """Return the call of a kernel on each of the inputs."""
    rng = np.random.default_rng(0)
    return {name: calls(draw(rng))[kernel] for name, draw in INPUTS.items()}


def show(records):
    """Print a table: times on each input, to those on normal numbers."""
    others = list(INPUTS)[1:]
    print(f"| kernel | ns | {' | '.join(others)} |\n|---|--:{'|--:' * len(others)}|")
    times = {}
    for row in records:
        times.setdefault(row["case"], {})[row["variant"]] = row["median"]
    for kernel, own in times.items():
        cells = " | ".join(f"{own[name] / own['normal']:.2f}" for name in others)
        print(f"| {kernel} | {1e9 * own['normal'] / N:.3f} | {cells} |", flush=True)
    print(
        f"\n{N} float32, one thread: nanoseconds an element on normal numbers, and times as long."
    )
