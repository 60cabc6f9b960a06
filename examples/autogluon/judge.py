"""dlcore's model through AutoGluon on small tables: alone, saved and loaded, and in four folds.

    pip install autogluon.core autogluon.features dlcore-kernels[sklearn]
    python examples/autogluon/judge.py

TabArena itself takes hours: it is given ``DlcoreModel`` where its examples give their own model.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from autogluon.core.data import LabelCleaner
from autogluon.core.models import BaggedEnsembleModel
from dlcore_model import DlcoreModel
from sklearn import datasets
from sklearn.model_selection import train_test_split

CASES = {
    "breast_cancer": ("binary", "log_loss"),
    "wine": ("multiclass", "log_loss"),
    "diabetes": ("regression", "root_mean_squared_error"),
}


def load(name, seed):
    """Return a table with a column of categories and missing values, split in two."""
    table = getattr(datasets, f"load_{name}")(as_frame=True).frame
    y = table.pop("target")
    rng = np.random.default_rng(seed)
    first = table.iloc[:, 0]
    table["category"] = pd.cut(first, 5, labels=list("abcde"))
    table.iloc[:, 1] = table.iloc[:, 1].where(rng.random(len(table)) > 0.1)
    strata = y if name != "diabetes" else None
    return train_test_split(table, y, test_size=0.25, random_state=seed, stratify=strata)


def judge(name, recipe, seed, folder, max_epochs):
    """Return the scores of one model and of the mean of four folds, as AutoGluon counts them."""
    problem, metric = CASES[name]
    x, x_test, y, y_test = load(name, seed)
    cleaner = LabelCleaner.construct(problem_type=problem, y=y)
    y, y_test = cleaner.transform(y), cleaner.transform(y_test)
    options = {
        "problem_type": problem,
        "eval_metric": metric,
        "hyperparameters": {"recipe": recipe, "max_epochs": max_epochs},
    }
    x_train, x_val, y_train, y_val = train_test_split(x, y, test_size=0.2, random_state=seed)
    one = DlcoreModel(path=str(folder), name="one", **options)
    one.fit(X=x_train, y=y_train, X_val=x_val, y_val=y_val, num_cpus=1, num_gpus=0)
    loaded = DlcoreModel.load(one.save())
    np.testing.assert_array_equal(loaded.predict_proba(x_test), one.predict_proba(x_test))
    bag = BaggedEnsembleModel(
        DlcoreModel(path=str(folder), name="fold", **options),
        path=str(folder),
        name="bag",
        hyperparameters={"fold_fitting_strategy": "sequential_local"},
        random_state=seed,
    )
    bag.fit(X=x, y=y, k_fold=4)
    return {kind: model.score(x_test, y_test) for kind, model in (("one", one), ("bag", bag))}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="realmlp")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-epochs", type=int)
    options = parser.parse_args()
    for name, (_, metric) in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            scores = judge(name, options.recipe, options.seed, Path(folder), options.max_epochs)
        told = ", ".join(f"{kind} {score:.4f}" for kind, score in scores.items())
        print(f"{name}, {metric} (higher is better): {told}")


if __name__ == "__main__":
    main()
