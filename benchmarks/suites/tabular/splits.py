"""The same rows to train and to test on for every library, from a seed."""

import zlib

import numpy as np

TEST = 0.2  # of the rows
MOST_TESTED = 20_000


def split(table, name, seed, rows=None):
    """Return the indices to train and to test on.

    A fifth of the rows are to test on, at most 20,000 of them: of each class a fifth, or whole
    groups. At most `rows` of the others are to train on, drawn of all.
    """
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    if table.groups is not None:
        test = by_groups(rng, table.groups)
    elif table.classes is not None:
        test = by_classes(rng, table.y)
    else:
        test = np.zeros(len(table.y), bool)
        test[rng.permutation(len(test))[: round(TEST * len(test))]] = True
    train, test = (rng.permutation(np.flatnonzero(own)) for own in (~test, test))
    return train[:rows], test[:MOST_TESTED]


def by_groups(rng, groups):
    """Mark rows of whole groups, a fifth of all rows or a few more."""
    sizes = np.bincount(groups)
    order = rng.permutation(len(sizes))
    many = np.searchsorted(np.cumsum(sizes[order]), TEST * len(groups)) + 1
    return np.isin(groups, order[:many])


def by_classes(rng, y):
    """Mark a fifth of the rows of each class."""
    test = np.zeros(len(y), bool)
    for label in np.unique(y):
        own = np.flatnonzero(y == label)
        test[rng.permutation(own)[: round(TEST * len(own))]] = True
    return test


def fingerprint(train, test):
    """Return a number that tells one split from another."""
    return zlib.crc32(np.concatenate([train, [-1], test]).astype("<i8").tobytes())
