"""Hashes of results that have the same bits on all processors, with ``DLCORE_REPRODUCIBLE=1``.

From the folder of the tests, this prints them; `tests/native/test_reproducible.py` has those that every
level must give::

    DLCORE_REPRODUCIBLE=1 PYTHONPATH=PATH python -m support.reproducible

All input is made of uniform draws and of arithmetic that is rounded once: what NumPy computes by
functions may differ from processor to processor.
"""

import json

import numpy as np

import dlcore as dl
from dlcore.nn._layers import ACTIVATIONS
from support.cases import DTYPES
from support.hashing import Hash

# Rows and columns of which no register's width is a divisor, and those of which each is.
SHAPES = ((1, 1), (7, 3), (37, 101), (64, 64), (3, 1029))
OPTIMIZERS = {
    "sgd": lambda p: dl.SGD(p, 0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "adam": lambda p: dl.Adam(p, 0.01, weight_decay=1e-3, amsgrad=True),
    "adamw": lambda p: dl.AdamW(p, 0.01, l1=1e-4),
}
NETWORKS = {
    "relu": lambda: [dl.Linear(20, 48), dl.ReLU(), dl.Linear(48, 33), dl.ReLU(), dl.Linear(33, 3)],
    "normalized": lambda: [
        *(dl.Linear(20, 40), dl.BatchNorm1d(40), dl.SiLU(), dl.Dropout(0.2)),
        *(dl.Linear(40, 24), dl.LayerNorm(24), dl.GELU(), dl.Linear(24, 3)),
    ],
    "smooth": lambda: [
        *(dl.Linear(20, 17), dl.Tanh(), dl.RMSNorm(17), dl.Linear(17, 19), dl.Mish()),
        *(dl.Linear(19, 16), dl.Softplus(), dl.Linear(16, 3)),
    ],
}


def uniform(rng, shape, dtype, low=-6.0, high=6.0):
    return (low + (high - low) * rng.random(shape)).astype(dtype)


def elementwise(digest, rng, shape, dtype):
    """Activations, their backward passes and what goes by rows."""
    x, dy = uniform(rng, shape, dtype), uniform(rng, shape, dtype, -1, 1)
    for name in ACTIVATIONS:
        digest.add(getattr(dl, name)(x))
        with_y = name in ("sigmoid", "tanh")
        digest.add(getattr(dl, f"{name}_backward")(dy, getattr(dl, name)(x) if with_y else x))
    for name in ("softmax", "log_softmax"):
        y = getattr(dl, name)(x)
        digest.add(y, getattr(dl, f"{name}_backward")(dy, y))
    digest.add(dl.logsumexp(x))


def losses(digest, rng, shape, dtype):
    """Losses with their gradients."""
    x, target = uniform(rng, shape, dtype), uniform(rng, shape, dtype, 0.0, 1.0)
    labels = rng.integers(0, shape[1], shape[0])
    digest.add(*dl.cross_entropy_and_grad(x, labels), dl.nll_loss(dl.log_softmax(x), labels))
    digest.add(*dl.binary_cross_entropy_with_logits_and_grad(x, target))
    digest.add(*dl.binary_cross_entropy_and_grad(dl.sigmoid(x), target))
    for name in ("mse", "l1", "huber", "smooth_l1", "poisson_nll"):
        digest.add(*getattr(dl, f"{name}_loss_and_grad")(x, target))


def columns(digest, rng, shape, dtype):
    """Norms, normalizers, statistics and products."""
    x, dy = uniform(rng, shape, dtype), uniform(rng, shape, dtype, -1, 1)
    weight, bias = uniform(rng, shape[1], dtype, 0.5, 1.5), uniform(rng, shape[1], dtype)
    digest.add(dl.layer_norm(x, weight, bias), dl.rms_norm(x, weight))
    if shape[0] > 1:
        for normalizer in (dl.ZScoreNormalizer(), dl.MinMaxNormalizer()):
            digest.add(normalizer.fit(x).transform(x))
        stats = dl.column_stats(x)
        digest.add(stats.mean, stats.var)
    for width in (1, 5, 70):
        matrix, offset = uniform(rng, (width, shape[1]), dtype), uniform(rng, width, dtype)
        y = dl.linear(x, matrix, offset)
        digest.add(y, *dl.linear_backward(uniform(rng, y.shape, dtype), x, matrix))
    digest.add(dl.clip_grad_norm([dy, bias], 0.5), dy, bias)


def updates(digest, rng, shape, dtype):
    """Steps of the optimizers."""
    for make in OPTIMIZERS.values():
        p = uniform(rng, shape, dtype)
        optimizer = make([p])
        for _ in range(5):
            optimizer.step([uniform(rng, shape, dtype, -1, 1)])
        digest.add(p)


def fit(layers, optimizer, dtype):
    """Return the parameters and the losses of a fit of 100 epochs, of batches of uneven length."""
    rng = np.random.default_rng(7)
    x = uniform(rng, (333, 20), dtype, -1, 1)
    y = (x[:, 0] > 0).astype(int) + (x[:, 1] * x[:, 2] > 0)
    model = dl.Sequential(*NETWORKS[layers](), dtype=dtype, seed=0)
    trainer = dl.Trainer(
        model, loss="cross_entropy", optimizer=OPTIMIZERS[optimizer](model.parameters()), seed=0
    )
    history = trainer.fit(x, y, epochs=100, batch_size=50, verbose=0)
    return model.flat, history["loss"]


def hashes():
    """Return the hash of each group of results, by its name."""
    found = {}
    for group in (elementwise, losses, columns, updates):
        for dtype in DTYPES:
            digest, rng = Hash(), np.random.default_rng(5)
            for shape in SHAPES:
                group(digest, rng, shape, dtype)
            found[f"{group.__name__} {np.dtype(dtype)}"] = str(digest)
    for layers in NETWORKS:
        for optimizer in OPTIMIZERS:
            for dtype in DTYPES:
                digest = Hash()
                digest.add(*fit(layers, optimizer, dtype))
                found[f"fit {layers} {optimizer} {np.dtype(dtype)}"] = str(digest)
    return found


if __name__ == "__main__":
    print(json.dumps({"level": dl.isa(), "hashes": hashes()}, indent=1))
