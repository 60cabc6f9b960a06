# %% [markdown]
# # Learning from a stream
#
# Rows come in chunks, each is seen once, and in the middle of the stream the world changes. A
# network that goes on learning is compared with one that does not.

# %%
from copy import deepcopy

import numpy as np
from sklearn.datasets import load_digits
from sklearn.utils import shuffle

from dlcore.sklearn import MLPClassifier, StandardScaler

# %% [markdown]
# The stream: 36 chunks of 50 handwritten digits. From chunk 18 on the scanner lies on its side: the
# images are transposed.

# %%
X, y = shuffle(*load_digits(return_X_y=True), random_state=0)
chunks = list(zip(np.array_split(X, 36), np.array_split(y, 36), strict=True))
DRIFT = 18


def transposed(X):
    return X.reshape(-1, 8, 8).transpose(0, 2, 1).reshape(-1, 64)


chunks[DRIFT:] = [(transposed(X), y) for X, y in chunks[DRIFT:]]

# %% [markdown]
# Both the scaler and the network learn from a chunk by `partial_fit`. The first call names all
# classes, since a chunk need not have them all. `epochs` is how often the network passes over the
# chunk.

# %%
scaler = StandardScaler()
network = MLPClassifier(random_state=0)


def learn(X, y):
    scaler.partial_fit(X)
    network.partial_fit(scaler.transform(X), y, classes=np.arange(10), epochs=20)


# %% [markdown]
# Each chunk is a test first and a lesson then (prequential evaluation): all rows serve for both,
# and no accuracy is of rows that were learned. The copy made at the drift learns no more.

# %%
learn(*chunks[0])
learning, frozen = [], []
for i, (X, y) in enumerate(chunks[1:], start=1):
    if i == DRIFT:
        frozen_scaler, frozen_network = deepcopy((scaler, network))
    learning.append(network.score(scaler.transform(X), y))
    if i >= DRIFT:
        frozen.append(frozen_network.score(frozen_scaler.transform(X), y))
    learn(X, y)


# %%
def mean_accuracies(accuracies):
    return "".join(f"{np.mean(part):8.2f}" for part in np.array_split(accuracies, 3))


before, after = learning[: DRIFT - 1], learning[DRIFT - 1 :]
print("accuracy on the next chunk, means of about six chunks in a row")
print(f"before the drift      {mean_accuracies(before)}")
print(f"after it, learning    {mean_accuracies(after)}")
print(f"after it, frozen      {mean_accuracies(frozen)}")
