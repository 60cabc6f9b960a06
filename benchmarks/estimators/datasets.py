"""The registry of quality: data sets that come with scikit-learn, and the networks for them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from sklearn import datasets
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline


@dataclass(frozen=True)
class Dataset:
    """Rows, and the parameters of the network that learns them, the same for all libraries."""

    name: str
    load: Callable[[], tuple[Any, Any]]
    options: dict[str, Any]
    is_regression: bool = False

    @property
    def metric(self):
        return "R²" if self.is_regression else "accuracy"

    def split(self, dtype, seed):
        """Return x and y to train on and to test on, in turn; a quarter is to test on."""
        x, y = rows(self.load)
        strata = None if self.is_regression else y
        return train_test_split(x.astype(dtype), y, stratify=strata, random_state=seed)[:4]

    def pipeline(self, library, seed):
        network = library.MLPRegressor if self.is_regression else library.MLPClassifier
        return make_pipeline(library.StandardScaler(), network(random_state=seed, **self.options))


@cache
def rows(load):
    return load()


def bundled(name):
    return partial(getattr(datasets, f"load_{name}"), return_X_y=True)


def generated():
    return datasets.make_classification(
        20_000,
        30,
        n_informative=15,
        n_redundant=5,
        n_classes=5,
        flip_y=0.05,
        random_state=0,
    )


DATASETS = {
    dataset.name: dataset
    for dataset in (
        Dataset("digits", bundled("digits"), {"hidden_layer_sizes": (64,), "max_iter": 60}),
        Dataset("wine", bundled("wine"), {"hidden_layer_sizes": (32,), "max_iter": 200}),
        Dataset(
            "breast cancer",
            bundled("breast_cancer"),
            {"hidden_layer_sizes": (32,), "max_iter": 100},
        ),
        Dataset(
            "diabetes",
            bundled("diabetes"),
            {
                "hidden_layer_sizes": (16,),
                "learning_rate_init": 0.01,
                "alpha": 10,
                "batch_size": 32,
                "max_iter": 100,
            },
            is_regression=True,
        ),
        Dataset("generated", generated, {"hidden_layer_sizes": (128, 64), "max_iter": 15}),
    )
}
