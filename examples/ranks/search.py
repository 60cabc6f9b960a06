"""A grid search for the examples with Dask and Ray: four networks, three folds each."""

from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline

from dlcore.sklearn import MLPClassifier, StandardScaler


def make_search():
    """The search; whatever backend of joblib is in force does its 12 fits."""
    pipeline = Pipeline(
        [
            ("scale", StandardScaler()),
            ("mlp", MLPClassifier(learning_rate_init=0.01, max_iter=400, random_state=0)),
        ]
    )
    grid = {
        "mlp__hidden_layer_sizes": [(16,), (32,)],
        "mlp__dropout": [0.0, 0.3],
    }
    return GridSearchCV(pipeline, grid, scoring="neg_log_loss", cv=3, n_jobs=-1)


def fit_and_show(search):
    """Search on the training rows, and score the best network on the others."""
    X, y = load_breast_cancer(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
    search.fit(X_train, y_train)
    print(f"best: {search.best_params_}")
    print(f"log-loss {-search.best_score_:.9f}, ", end="")
    print(f"test accuracy {100 * search.best_estimator_.score(X_test, y_test):.1f} %")


if __name__ == "__main__":
    fit_and_show(make_search())
