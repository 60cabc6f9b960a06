"""A table of all kinds of columns, targets, and small estimators of them, for the tests of exports."""

import numpy as np
import pandas as pd

from dlcore.sklearn import TabularClassifier, TabularRegressor, _recipes

ROWS = 240


def make_table(level):
    """Return a frame whose numbers lie around a level, and targets by name."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({
        "size": rng.normal(level, 3.0, ROWS),
        "kind": rng.choice(["a", "b", "größer"], ROWS),
        "town": [f"town {i % 23}" for i in range(ROWS)],
        "flag": rng.choice([True, False], ROWS),
        "count": [np.nan if i % 7 == 0 else i % 5 for i in range(ROWS)],
        "gaps": [None if i % 3 == 0 else ["x", "y"][i % 2] for i in range(ROWS)],
        "nothing": [None] * ROWS,
        "same": [2.5] * ROWS,
    })  # fmt: skip
    signal = frame["size"] - level + 2.0 * (frame["kind"] == "a") + frame["count"].fillna(4)
    signal = signal.to_numpy()
    return frame, {
        "two": np.where(signal > 1, "yes", "no"),
        "three": np.digitize(signal, [0, 2]),
        "labels": np.stack([signal > 1, frame["flag"]], axis=1).astype(int),
        "questions": np.stack([np.digitize(signal, [0, 2]), np.arange(ROWS) % 4], axis=1),
        "number": signal,
        "numbers": np.stack([signal, 1e6 - 1e5 * signal], axis=1),
    }


def new_rows(frame):
    """Return rows as those of the fit, and such with what was not there."""
    rows = frame.iloc[:60].copy()
    rows.loc[3, ["kind", "town", "gaps"]] = "other"
    rows.loc[4, "size"], rows.loc[5, "size"] = 1e9, np.nan
    rows.loc[6, ["kind", "town"]] = None
    rows.loc[7, "same"] = 7.0
    return rows


def shrink_networks(monkeypatch):
    """Make the networks of the recipes small."""
    monkeypatch.setattr(_recipes.RealMLP, "width", 24)
    monkeypatch.setattr(_recipes.TabM, "k", 4)
    monkeypatch.setattr(_recipes.TabM, "width", 16)


def fitted(X, targets, name, recipe="realmlp", **options):
    """Return an estimator of the targets of a name."""
    kind = TabularRegressor if name.startswith("number") else TabularClassifier
    return kind(recipe, random_state=0, **{"max_epochs": 2, **options}).fit(X, targets[name])
