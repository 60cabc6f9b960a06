# %% [markdown]
# # Intervals by quantile regression
#
# One network predicts several quantiles at once. Those of 10 % and 90 % are an interval that should
# hold 80 % of the new values, wide where the data scatter and narrow where they do not.

# %%
import sys

import numpy as np
from matplotlib.figure import Figure
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_diabetes
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.pipeline import make_pipeline

from dlcore.sklearn import MLPRegressor, StandardScaler

QUANTILES = [0.1, 0.5, 0.9]


def coverage(y, low, high):
    """Share of the values inside of the interval."""
    return np.mean((low <= y) & (y <= high))


# %% [markdown]
# ## Data whose quantiles are known
#
# The noise grows from left to right. A fit of the mean with an interval of one width for all x, for
# comparison, can only be right on average.

# %%
rng = np.random.default_rng(0)


def draw(n):
    x = rng.uniform(size=(n, 1))
    return x, np.sin(6 * x[:, 0]) + noise(x[:, 0]) * rng.normal(size=n)


def noise(x):
    return 0.05 + 0.5 * x**2


X_train, y_train = draw(2000)
X_test, y_test = draw(2000)

parameters = {"hidden_layer_sizes": (64, 64), "activation": "gelu", "random_state": 0}
model = make_pipeline(
    StandardScaler(), MLPRegressor(loss="quantile", quantile=QUANTILES, **parameters)
).fit(X_train, y_train)
low, median, high = model.predict(X_test).T
assert np.all((low <= median) & (median <= high))  # quantiles never cross

mean = make_pipeline(StandardScaler(), MLPRegressor(**parameters)).fit(X_train, y_train)
offsets = np.quantile(y_train - mean.predict(X_train), [0.1, 0.9])
fixed_low, fixed_high = mean.predict(X_test) + offsets[:, np.newaxis]

print("share of test values in the interval    all    x < 1/3    x > 2/3")
parts = [np.full(len(X_test), True), X_test[:, 0] < 1 / 3, X_test[:, 0] > 2 / 3]
shares = {}
for name, lower, upper in (("quantiles", low, high), ("one width", fixed_low, fixed_high)):
    shares[name] = [coverage(y_test[part], lower[part], upper[part]) for part in parts]
    print("{:37} {:.3f} {:10.3f} {:10.3f}".format(name, *shares[name]))

# %% [markdown]
# ## Real data
#
# The progression of diabetes of 442 patients. Each is predicted by a network that has not seen
# them. `TransformedTargetRegressor` scales y, and scales the quantiles back.

# %%
X, y = load_diabetes(return_X_y=True)
folds = KFold(10, shuffle=True, random_state=0)


def predict_quantiles(**parameters):
    network = MLPRegressor(loss="quantile", quantile=QUANTILES, max_iter=500, random_state=0)
    regressor = make_pipeline(StandardScaler(), network.set_params(alpha=1.0, **parameters))
    scaled = TransformedTargetRegressor(regressor, transformer=StandardScaler())
    return cross_val_predict(scaled, X, y, cv=folds).T


print("\ndropout  in the interval  mean width")
diabetes = {dropout: predict_quantiles(dropout=dropout) for dropout in (0.0, 0.5)}
for dropout, (lower, _, upper) in diabetes.items():
    print(f"{dropout:7} {coverage(y, lower, upper):16.3f} {(upper - lower).mean():11.0f}")

# %% [markdown]
# Without dropout the network follows the rows that it learns from too closely: its intervals are
# too narrow for others. Coverage on rows that were not learned is what to look at.

# %% [markdown]
# ## A picture
#
# `python sklearn_quantiles.py intervals.png` says where to save it.

# %%
BLUE, PALE, RED, GRAY = "tab:blue", "#cfe1f0", "tab:red", "0.5"
figure = Figure(figsize=(11, 4.4), layout="constrained")
left, right = figure.subplots(1, 2)

x = np.linspace(0, 1, 300)
lower, middle, upper = model.predict(x[:, np.newaxis]).T
left.fill_between(x, lower, upper, color=PALE, linewidth=0, label="10 % to 90 %")
left.plot(X_test[:600, 0], y_test[:600], ".", color=GRAY, markersize=3, label="test value")
left.plot(x, middle, color=BLUE, label="median")
for i, z in enumerate([-1.2816, 0, 1.2816]):  # those of the normal distribution
    label = "true quantiles" if i == 0 else None
    left.plot(x, np.sin(6 * x) + z * noise(x), ":", color="black", linewidth=1.2, label=label)
left.set(title="Noise that grows with x", xlabel="x", ylabel="y", xlim=(0, 1))

lower, middle, upper = diabetes[0.5]
inside = (lower <= y) & (y <= upper)
rank = middle.argsort().argsort()
right.vlines(rank, lower, upper, color=PALE, linewidth=1.5, label="10 % to 90 %")
for part, color, label in ((inside, GRAY, "value inside"), (~inside, RED, "value outside")):
    right.plot(rank[part], y[part], ".", color=color, markersize=4, label=label)
right.plot(np.sort(middle), color=BLUE, label="median")
title = f"Diabetes: {inside.sum()} of {len(y)} values inside"
right.set(title=title, xlabel="patients, by predicted median", ylabel="progression")
right.set(xlim=(-5, len(y) + 4), xticks=[])

for axes in (left, right):
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize="small")
path = next((argument for argument in sys.argv if argument.endswith(".png")), "quantiles.png")
figure.savefig(path, dpi=150)
print(f"\npicture saved as {path}")
