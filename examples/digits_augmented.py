"""Data augmentation: learn handwritten digits from 10 images of each.

The same network learns the rows as they are; mixtures of two of them (mixup); images that every
epoch turns, skews, scales and shifts anew, with noise; and mixtures of those. All other rows test
it. Each way is repeated with other rows to learn from.
"""

import argparse

import numpy as np
from sklearn.datasets import load_digits

import dlcore as dl

SHAPE = (8, 8)
PER_CLASS = 10
COPIES = 10  # of each row in an epoch, each changed in its own way
BATCH_SIZE = 20

TRANSFORM = dl.ImageTransform(SHAPE, rotation=15, skew=10, scale=0.15, shift=0.1, noise=0.1)
MIX = dl.mixup(alpha=0.2)
WAYS = {
    "no augmentation": {},
    "mixup": {"mix": MIX},
    "transforms": {"transform": TRANSFORM},
    "transforms and mixup": {"transform": TRANSFORM, "mix": MIX},
}


def load_data(seed):
    """Draw PER_CLASS rows of each class to train on, COPIES times; all others are to test on."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    order = np.random.default_rng(seed).permutation(len(y))
    train = np.concatenate([order[y[order] == digit][:PER_CLASS] for digit in range(10)])
    test = np.setdiff1d(order, train)
    train = np.tile(train, COPIES)
    return (x[train], y[train]), (x[test], y[test])


def accuracy(seed, epochs, **augmentation):
    """Train a network with this augmentation; return its accuracy on the test rows in percent."""
    train, test = load_data(seed)
    model = dl.Sequential(
        dl.Linear(64, 128), dl.ReLU(), dl.Linear(128, 128), dl.ReLU(), dl.Linear(128, 10), seed=seed
    )
    optimizer = dl.Adam(model.parameters(), lr=3e-3)
    trainer = dl.Trainer(
        model, loss="cross_entropy", optimizer=optimizer, metrics=["accuracy"], seed=seed
    )
    trainer.fit(*train, epochs=epochs, batch_size=BATCH_SIZE, verbose=0, **augmentation)
    return 100 * trainer.evaluate(*test)["accuracy"]


def mean_and_error(values):
    """The mean and its standard error."""
    return np.mean(values), np.std(values, ddof=1) / np.sqrt(len(values))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10, help="repetitions, at least 2")
    parser.add_argument("--epochs", type=int, default=30, help="epochs of each training")
    arguments = parser.parse_args()

    accuracies = {
        name: np.array([accuracy(seed, arguments.epochs, **way) for seed in range(arguments.seeds)])
        for name, way in WAYS.items()
    }
    plain = accuracies["no augmentation"]
    print(f"Means of {arguments.seeds} repetitions, ± their standard errors:")
    print("                       test accuracy              gain")
    for name, values in accuracies.items():
        row = "{:20} {:8.1f} ± {:3.1f} %".format(name, *mean_and_error(values))
        if values is not plain:
            row += " {:+8.1f} ± {:3.1f} points".format(*mean_and_error(values - plain))
        print(row)


if __name__ == "__main__":
    main()
