"""dlcore's Trainer in the place of its estimators: what they add to a fit."""

from types import SimpleNamespace

import dlcore
from dlcore import Linear, ReLU, Sequential, Trainer

library = dlcore


def estimators():
    return SimpleNamespace(MLPClassifier=Bare)


class Bare:
    """dlcore's Trainer doing the work of a binary MLPClassifier, without the estimator around it.

    Its targets come encoded, and it draws parameters and orders of rows of its own.
    """

    def __init__(self, hidden_layer_sizes, batch_size, max_iter, **_):
        self.hidden, self.batch_size, self.epochs = hidden_layer_sizes, batch_size, max_iter

    def encode(self, x, y):
        return y.astype(x.dtype)

    def fit(self, x, y):
        layers, width = [], x.shape[1]
        for units in self.hidden:
            layers += [Linear(width, units), ReLU()]
            width = units
        model = Sequential(*layers, Linear(width, 1), dtype=x.dtype, seed=0)
        trainer = Trainer(model, loss="bce_with_logits", seed=0)  # Adam, at scikit-learn's rate
        history = trainer.fit(x, y, epochs=self.epochs, batch_size=self.batch_size, verbose=0)
        self.loss_ = history["loss"][-1]
        return self
