# %% [markdown]
# # Grid search over a pipeline
#
# scikit-learn's tools take dlcore's estimators as they take its own: only the next import differs.

# %%
from importlib.util import find_spec

from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline

from dlcore.sklearn import MLPClassifier, StandardScaler

# %% [markdown]
# The data: 569 tumors, 30 measurements of each, malignant or benign.

# %%
X, y = load_breast_cancer(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)

# %% [markdown]
# The grid has parameters of scikit-learn, such as `hidden_layer_sizes`, and two that dlcore adds:
# `dropout` and the activation "gelu". Each of the 12 candidates is fitted 5 times.

# %%
pipeline = Pipeline(
    [
        ("scale", StandardScaler()),
        ("mlp", MLPClassifier(learning_rate_init=0.01, random_state=0)),
    ]
)
grid = {
    "mlp__hidden_layer_sizes": [(32,), (32, 32)],
    "mlp__activation": ["relu", "gelu"],
    "mlp__dropout": [0.0, 0.3, 0.6],
}
search = GridSearchCV(pipeline, grid, scoring="neg_log_loss", cv=5).fit(X_train, y_train)

# %% [markdown]
# All candidates, the best first, with the standard deviation over the folds. The log-loss tells
# more than the accuracy: it punishes networks that are sure and wrong.

# %%
results = search.cv_results_
print("  log-loss        activation  dropout  hidden layers")
for i in results["rank_test_score"].argsort():
    loss, spread = -results["mean_test_score"][i], results["std_test_score"][i]
    layers, activation, dropout = (results[f"param_{name}"][i] for name in grid)
    print(f"{loss:.3f} ± {spread:.3f}  {activation:>12}  {dropout:7}  {layers}")

# %% [markdown]
# One small layer is enough, and dropout helps it. Among the first few the differences are smaller
# than the deviations: the order could be another with other folds.
#
# The search has fitted the best candidate once more, on all rows to train on. The rows to test on
# were not touched until now.

# %%
accuracy = search.best_estimator_.score(X_test, y_test)
print(f"best: {search.best_params_}")
print(f"test log-loss {-search.score(X_test, y_test):.3f}, test accuracy {accuracy:.3f}")

# %% [markdown]
# With pandas, a data frame goes in, and `set_output` makes the scaler return one: the columns keep
# their names.

# %%
if find_spec("pandas"):
    frame = load_breast_cancer(as_frame=True).data
    scaler = StandardScaler().set_output(transform="pandas")
    print(scaler.fit_transform(frame)[["mean radius", "mean texture"]].describe().round(3))
