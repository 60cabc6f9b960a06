"""Handwritten digits: train a network with mini-batches and early stopping.

scikit-learn's MLPClassifier then trains the same network on the same rows, to compare: with its own
stopping rule, on the training loss, and without label smoothing, which it does not have.
"""

import argparse
import time

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

import dlcore as dl

BATCH_SIZE = 32
PATIENCE = 10
MIN_DELTA = 1e-3
SMOOTHING = 0.1


def load_data():
    """Rows to train on, to validate on and to test on: x of 64 normalized pixels, y from 0 to 9."""
    x, y = load_digits(return_X_y=True)
    x, x_test, y, y_test = train_test_split(x, y, test_size=0.25, stratify=y, random_state=0)
    x, x_val, y, y_val = train_test_split(x, y, test_size=0.2, stratify=y, random_state=0)
    normalizer = dl.ZScoreNormalizer().fit(x)
    x, x_val, x_test = (
        normalizer.transform(part.astype(np.float32)) for part in (x, x_val, x_test)
    )
    return (x, y), (x_val, y_val), (x_test, y_test)


def make_trainer(seed=0):
    """A network of 64-128-64-10 units and how to train it."""
    model = dl.Sequential(
        dl.Linear(64, 128), dl.ReLU(), dl.Linear(128, 64), dl.ReLU(), dl.Linear(64, 10), seed=seed
    )
    return dl.Trainer(
        model,
        loss=dl.CrossEntropyLoss(label_smoothing=SMOOTHING),
        optimizer=dl.Adam(model.parameters(), lr=1e-3),
        callbacks=[dl.EarlyStopping(patience=PATIENCE, min_delta=MIN_DELTA)],
        metrics=["accuracy"],
        seed=seed,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--curves", default="digits.png", help="where to save the curves")
    parser.add_argument("--epochs", type=int, default=200, help="most epochs to train")
    arguments = parser.parse_args()

    train, validation, (x_test, y_test) = load_data()
    print(f"{len(train[0])} rows to train on, {len(validation[0])} to validate on, ", end="")
    print(f"{len(x_test)} to test on")

    trainer = make_trainer()
    print(trainer.model)
    began = time.perf_counter()
    history = trainer.fit(
        *train,
        epochs=arguments.epochs,
        batch_size=BATCH_SIZE,
        validation_data=validation,
        verbose=2,
    )
    seconds = time.perf_counter() - began
    accuracy = trainer.evaluate(x_test, y_test)["accuracy"]
    history.plot(arguments.curves)

    peer = MLPClassifier((128, 64), batch_size=BATCH_SIZE, random_state=0)
    began = time.perf_counter()
    peer.fit(*train)
    peer_seconds = time.perf_counter() - began
    peer_accuracy = peer.score(x_test, y_test)

    print()
    print("                test accuracy  epochs     time")
    row = "{:14} {:13.2f} % {:7} {:6.2f} s".format
    print(row("dlcore", 100 * accuracy, len(history.epoch), seconds))
    print(row("MLPClassifier", 100 * peer_accuracy, peer.n_iter_, peer_seconds))
    print(f"\ncurves saved as {arguments.curves}")


if __name__ == "__main__":
    main()
