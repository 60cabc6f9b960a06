"""JAX, jitted; old results are donated, so that new ones take their memory."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from cases import BETAS, EPS, LR, MOMENTUM

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
CALLS = {
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
