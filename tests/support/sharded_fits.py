"""Fits of several ranks with rows of their own, and fits of one process on the same batches."""

import numpy as np

import dlcore as dl
from support.ranks import on_ranks

RNG = np.random.default_rng(5)
FEATURES, CLASSES = 5, 3
# Rows of three ranks: several, not as many, none.
COUNTS = (60, 41, 0)
X = RNG.normal(size=(sum(COUNTS), FEATURES))
LABELS = RNG.integers(0, CLASSES, len(X))
LABELS[:20] = 0  # classes are not as frequent
VALUES = RNG.normal(size=(len(X), CLASSES))
WEIGHT = np.where(np.arange(len(X)) % 5 == 2, 0.0, RNG.uniform(0.5, 2, len(X)))


def rows_of(rank, counts=COUNTS):
    """Return which rows a rank has."""
    start = sum(counts[:rank])
    return slice(start, start + counts[rank])


def batches_of_all(arrays, batch_size, counts=COUNTS):
    """Return the batches of all ranks together, in the order of the rows of each."""
    size = len(counts)
    shares = [batch_size // size + (rank < batch_size % size) for rank in range(size)]
    most = max(-(-n // share) for n, share in zip(counts, shares, strict=True))
    batches = []
    for i in range(most):
        own = [
            np.arange(len(X))[rows_of(rank, counts)][i * share : (i + 1) * share]
            for rank, share in enumerate(shares)
        ]
        index = np.concatenate(own)
        batches.append(tuple(array[index] for array in arrays))
    return batches


def network(*hidden, dtype=np.float64, seed=1):
    """Return a small model, with other layers after its first one."""
    layers = dl.Linear(FEATURES, 8), *(hidden or (dl.Tanh(),)), dl.Linear(8, CLASSES)
    return dl.Sequential(*layers, dtype=dtype, seed=seed)


def trainer_of(model, comm=None, optimizer=None, **options):
    """Return a trainer that has not begun; ``optimizer`` makes one of the parameters."""
    options = {"loss": "cross_entropy", "seed": 3} | options
    if optimizer is not None:
        options["optimizer"] = optimizer(model.parameters())
    return dl.Trainer(model, comm=comm, **options)


def returned(outcomes):
    """Return what ranks have returned; raise what one of them has raised."""
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
    return outcomes


def fits_on_ranks(size, fit):
    """Return the trainers that ``fit(comm)`` returns on each rank, which agree to the bit."""
    trainers = returned(on_ranks(size, fit))
    first = trainers[0]
    for other in trainers[1:]:
        state, expected = other.model.state_dict(), first.model.state_dict()
        for name, array in state.items():
            np.testing.assert_array_equal(array, expected[name], err_msg=name)
        for name in first.history:
            np.testing.assert_array_equal(other.history[name], first.history[name], err_msg=name)
    return trainers


# Options of trainers of several ranks, each of which has rows of its own or not.
MODES = {
    "sharded": {"sharded": True, "clip_grad_norm": 0.5},
    "streams": {"sharded": True, "accumulate": 2},
    "means": {"average_every": 3},
    "means of own rows": {"average_every": 3, "sharded": True},
}


def fit_of(mode, comm, epochs=2, **options):
    """Fit with all that ranks exchange in a mode; return the trainer."""
    model = network(dl.ReLU(), dl.BatchNorm1d(8), dl.Dropout(0.2))
    trainer = trainer_of(model, comm, metrics=["accuracy"], **MODES[mode])
    own = rows_of(comm.rank) if trainer.sharded else slice(None)
    if mode == "streams":
        starts = range(own.start, own.stop, 8)
        batches = [(X[i : i + 8], LABELS[i : i + 8]) for i in starts]
        trainer.fit(batches, validation_data=batches, epochs=epochs, verbose=0, **options)
    else:
        options |= {"class_weight": "balanced", "validation_split": 0.25}
        trainer.fit(X[own], LABELS[own], epochs=epochs, batch_size=12, verbose=0, **options)
    return trainer


def numbers_of(trainer):
    """Return what a fit has come to in one array."""
    state = [array.ravel() for array in trainer.model.state_dict().values()]
    return np.concatenate([*state, *trainer.history.values()])
