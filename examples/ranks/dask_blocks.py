"""Rows in blocks of a Dask array: learned block by block, and predicted by all workers at once.

    python examples/ranks/dask_blocks.py

dask_ml's Incremental calls partial_fit with one block after the other; no more than a few of them
are in memory at a time. ParallelPostFit predicts each block where it is.
"""

import dask.array as da
import numpy as np
from dask.distributed import Client, LocalCluster
from dask_ml.wrappers import Incremental, ParallelPostFit

from dlcore.sklearn import MLPClassifier

ROWS, BLOCK = 30_000, 3_000


def make_rows():
    """Blocks that are drawn where they are needed: two classes, inside a sphere and outside."""
    X = da.random.default_rng(0).standard_normal((ROWS, 8), chunks=(BLOCK, 8), dtype=np.float32)
    return X, ((X**2).sum(axis=1) > 7.3).astype(np.int64)


def main():
    X, y = make_rows()
    train, test = slice(None, ROWS - 2 * BLOCK), slice(ROWS - 2 * BLOCK, None)
    own = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(**own) as cluster, Client(cluster):
        learner = Incremental(MLPClassifier((32, 32), learning_rate_init=0.005, random_state=0))
        for _ in range(3):
            learner.partial_fit(X[train], y[train], classes=[0, 1])
        predictor = ParallelPostFit(learner.estimator_)
        right = predictor.predict(X[test]) == y[test]
        print(f"{right.numblocks[0]} blocks of {BLOCK} rows predicted, ", end="")
        print(f"test accuracy {100 * float(right.mean().compute()):.1f} %")


if __name__ == "__main__":  # workers import this file
    main()
