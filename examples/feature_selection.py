"""Feature selection: an L1 penalty takes measurements out of a diagnosis.

scikit-learn's breast cancer data has 30 measurements of the cell nuclei in each of 569 images. A
network tells benign tumors from malignant ones. With an L1 penalty on its first layer, weights
become exactly 0; a measurement whose weights to all units are 0 is no longer needed. This is
repeated with other splits into rows to train on and rows to test on.
"""

import argparse

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

import dlcore as dl

PENALTIES = (0.0, 0.3, 0.6, 1.0)
EPOCHS = 100


def load_data(seed):
    """Rows to train on and to test on: x of 30 normalized measurements, y 1 for benign."""
    x, y = load_breast_cancer(return_X_y=True)
    x, x_test, y, y_test = train_test_split(x, y, test_size=0.3, stratify=y, random_state=seed)
    normalizer = dl.ZScoreNormalizer().fit(x)
    x, x_test = (normalizer.transform(part).astype(np.float32) for part in (x, x_test))
    return (x, y.astype(np.float32)), (x_test, y_test.astype(np.float32))


def select(l1, seed):
    """Train with this penalty; return which measurements are left, and the scores of the test."""
    train, test = load_data(seed)
    model = dl.Sequential(dl.Linear(30, 16), dl.ReLU(), dl.Linear(16, 1), seed=seed)
    groups = [
        {"params": model.parameters("0.weight"), "l1": l1},
        {"params": model.parameters("0.bias", "2")},
    ]
    trainer = dl.Trainer(
        model,
        loss="bce_with_logits",
        optimizer=dl.Adam(groups, lr=0.01),
        metrics=["accuracy"],
        schedule=dl.CosineAnnealingLR(EPOCHS),
        seed=seed,
    )
    trainer.fit(*train, epochs=EPOCHS, verbose=0)
    return model[0].weight.any(axis=0), trainer.evaluate(*test)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10, help="repetitions, at least 2")
    seeds = parser.parse_args().seeds

    print(f"Means of {seeds} repetitions, the accuracies ± their standard errors:")
    print("  L1   measurements left   test accuracy   test loss")
    for l1 in PENALTIES:
        left, scores = zip(*(select(l1, seed) for seed in range(seeds)), strict=True)
        accuracies = [100 * score["accuracy"] for score in scores]
        error = np.std(accuracies, ddof=1) / np.sqrt(seeds)
        loss = np.mean([score["loss"] for score in scores])
        accuracy = f"{np.mean(accuracies):.1f} ± {error:.1f} %"
        print(f"{l1:4.1f}   {np.sum(left) / seeds:17.1f}   {accuracy:>13}   {loss:9.3f}")

    print(f"\nLeft with a penalty of {l1}, in how many of the repetitions:")
    counts = np.sum(left, axis=0)
    names = load_breast_cancer().feature_names
    for i in np.argsort(-counts, kind="stable"):
        if counts[i]:
            print(f"{counts[i]:4}  {names[i]}")


if __name__ == "__main__":
    main()
