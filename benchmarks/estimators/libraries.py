"""What stands behind the name of a process: a library's estimators, by their names.

Imported by the process of that library alone.
"""

from types import SimpleNamespace


def load(name):
    """Import a library; ``library`` is what has its version."""
    if name == "trainer":
        import dlcore

        return SimpleNamespace(library=dlcore, MLPClassifier=Bare)
    if name == "dlcore":
        import dlcore as library
        from dlcore.sklearn import MinMaxScaler, MLPClassifier, MLPRegressor, StandardScaler
    else:
        import sklearn as library
        from sklearn.neural_network import MLPClassifier, MLPRegressor
        from sklearn.preprocessing import MinMaxScaler, StandardScaler
    return SimpleNamespace(
        library=library,
        MLPClassifier=MLPClassifier,
        MLPRegressor=MLPRegressor,
        StandardScaler=StandardScaler,
        MinMaxScaler=MinMaxScaler,
    )


class Bare:
    """dlcore's Trainer doing the work of a binary MLPClassifier, without the estimator around it.

    Its targets come encoded, and it draws parameters and orders of rows of its own.
    """

    def __init__(self, hidden_layer_sizes, batch_size, max_iter, **_):
        self.hidden, self.batch_size, self.epochs = hidden_layer_sizes, batch_size, max_iter

    def encode(self, x, y):
        return y.astype(x.dtype)

    def fit(self, x, y):
        from dlcore import Linear, ReLU, Sequential, Trainer

        layers, width = [], x.shape[1]
        for units in self.hidden:
            layers += [Linear(width, units), ReLU()]
            width = units
        model = Sequential(*layers, Linear(width, 1), dtype=x.dtype, seed=0)
        trainer = Trainer(model, loss="bce_with_logits", seed=0)  # Adam, at scikit-learn's rate
        history = trainer.fit(x, y, epochs=self.epochs, batch_size=self.batch_size, verbose=0)
        self.loss_ = history["loss"][-1]
        return self
