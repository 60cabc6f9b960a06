"""JAX, jitted; old results are donated, so that new ones take their memory."""

import os
from functools import partial

threads = os.environ["OMP_NUM_THREADS"]
os.environ["XLA_FLAGS"] = (
    f"--xla_cpu_multi_thread_eigen=true intra_op_parallelism_threads={threads}"
)

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.settings import BETAS, EPS, LR, MOMENTUM, RATES

library = jax
to_numpy = np.asarray


def plain(function, *inputs):
    inputs = [jnp.asarray(x) for x in inputs]
    call = jax.jit(function)
    return lambda: jax.block_until_ready(call(*inputs))


def donated(function, *inputs):
    """Jit a function with the result of the last call donated to the next."""
    inputs = [jnp.asarray(x) for x in inputs]
    call = jax.jit(lambda _, *inputs: function(*inputs), donate_argnums=0, keep_unused=True)
    old = jax.jit(function)(*inputs)

    def run():
        nonlocal old
        old = jax.block_until_ready(call(old, *inputs))
        return old

    return run


def both(function, **more):
    """Return the ways to call a function of arrays; more versions of it may be given."""
    named = {"": function, **more}
    return {
        f"{way} {name}".strip(): partial(prepare, function)
        for name, function in named.items()
        for way, prepare in (("jit", plain), ("jit, donated", donated))
    }


def cross_entropy_gather(logits, target):
    picked = jnp.take_along_axis(logits, target[:, None], axis=1)[:, 0]
    return jnp.mean(jax.nn.logsumexp(logits, axis=1) - picked)


def cross_entropy_one_hot(logits, target):
    hot = jax.nn.one_hot(target, logits.shape[1], dtype=logits.dtype)
    return -jnp.mean(jnp.sum(jax.nn.log_softmax(logits, axis=1) * hot, axis=1))


def bce_with_logits(logits, target):
    return jnp.mean(jnp.maximum(logits, 0) - logits * target + jnp.log1p(jnp.exp(-jnp.abs(logits))))


def relu_backward(dy, x):
    return jnp.where(x > 0, dy, 0)


def transform(x, shift, scale):
    return (x - shift) * (1 / scale)


def transform_fused(x, shift, scale):
    return x * (1 / scale) - shift * (1 / scale)


def step(update, slots, params, grads):
    """Jit an update of lists of arrays; parameters and state are donated."""
    grads = [jnp.array(g) for g in grads]
    state = [[jnp.array(p) for p in params]]
    state += [[jnp.zeros_like(p) for p in state[0]] for _ in range(slots)]
    steps = jnp.ones((), state[0][0].dtype)

    @partial(jax.jit, donate_argnums=(0, 1))
    def call(state, steps, grads):
        updated = [update(steps, g, *slots) for g, *slots in zip(grads, *state, strict=True)]
        return [list(arrays) for arrays in zip(*updated, strict=True)], steps + 1

    def run():
        nonlocal state, steps
        state, steps = jax.block_until_ready(call(state, steps, grads))
        return state[0]

    return run


def adam(steps, g, p, m, v):
    b1, b2 = BETAS
    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * g * g
    root = jnp.sqrt(v / (1 - b2**steps)) + EPS
    return p - LR / (1 - b1**steps) * m / root, m, v


def sgd_momentum(steps, g, p, velocity):
    velocity = MOMENTUM * velocity + g
    return p - LR * velocity, velocity


transforms = both(transform, fused=transform_fused)
KERNELS = {
    "cross_entropy_and_grad": both(
        jax.value_and_grad(cross_entropy_one_hot), gather=jax.value_and_grad(cross_entropy_gather)
    ),
    "bce_with_logits_and_grad": both(jax.value_and_grad(bce_with_logits)),
    "relu": both(jax.nn.relu),
    "relu_backward": both(relu_backward),
    "adam_step": {"jit, donated": partial(step, adam, 2)},
    "sgd_momentum_step": {"jit, donated": partial(step, sgd_momentum, 1)},
    "z_score_fit": {"jit": partial(plain, lambda x: (jnp.mean(x, 0), jnp.var(x, 0)))},
    "min_max_fit": {"jit": partial(plain, lambda x: (jnp.min(x, 0), jnp.max(x, 0)))},
    "z_score_transform": transforms,
    "min_max_transform": transforms,
}

UNROLL = 4  # a tenth faster than 1 in most cases


def forward(layers, x):
    for weight, bias in layers[:-1]:
        x = jax.nn.relu(x @ weight + bias)
    weight, bias = layers[-1]
    return x @ weight + bias


def cross_entropy(logits, y):
    hot = jax.nn.one_hot(y, logits.shape[1], dtype=logits.dtype)
    return -jnp.mean(jnp.sum(jax.nn.log_softmax(logits, axis=1) * hot, axis=1))


def mse(outputs, y):
    return jnp.mean((outputs - y) ** 2)


LOSSES = {"cross_entropy": cross_entropy, "mse": mse}


def adam_of_tree(params, grads, state):
    b1, b2 = BETAS
    steps, means, squares = state
    steps = steps + 1
    means = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, means, grads)
    squares = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, squares, grads)
    rate, scale = RATES["adam"] / (1 - b1**steps), 1 / (1 - b2**steps)
    params = jax.tree.map(
        lambda p, m, v: p - rate * m / (jnp.sqrt(v * scale) + EPS), params, means, squares
    )
    return params, (steps, means, squares)


def sgd_of_tree(params, grads, state):
    steps, velocities, unused = state
    velocities = jax.tree.map(lambda v, g: MOMENTUM * v + g, velocities, grads)
    params = jax.tree.map(lambda p, v: p - RATES["sgd"] * v, params, velocities)
    return params, (steps, velocities, unused)


UPDATES = {"adam": adam_of_tree, "sgd": sgd_of_tree}


def train(case):
    jax.config.update("jax_enable_x64", case.dtype == "float64")
    x, y = map(jnp.asarray, case.data())
    params = [(jnp.asarray(weight.T), jnp.asarray(bias)) for weight, bias in case.parameters()]
    zeros = partial(jax.tree.map, jnp.zeros_like)
    state = params, (jnp.zeros((), x.dtype), zeros(params), zeros(params))
    loss_of, update = LOSSES[case.loss], UPDATES[case.optimizer]
    scanned = case.rows // case.batch * case.batch

    @partial(jax.jit, donate_argnums=0)
    def train_epoch(state, order, x, y):
        def step(state, index):
            params, slots = state
            loss, grads = jax.value_and_grad(
                lambda layers: loss_of(forward(layers, x[index]), y[index])
            )(params)
            return update(params, grads, slots), loss

        batches = order[:scanned].reshape(-1, case.batch)
        state, losses = lax.scan(step, state, batches, unroll=UNROLL)
        total = losses.sum() * case.batch
        if scanned < case.rows:
            state, loss = step(state, order[scanned:])
            total += loss * (case.rows - scanned)
        return state, total / case.rows

    rng = np.random.default_rng(0)

    def epoch():
        nonlocal state
        order = rng.permutation(case.rows).astype(np.int32)
        state, loss = jax.block_until_ready(train_epoch(state, order, x, y))
        return loss

    return epoch
