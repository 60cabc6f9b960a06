"""Hashes of results, to tell whether a change of the code changed a bit of them.

From the folder of the tests, with each of two builds of dlcore first on the path, this prints a
hash a group of results: the kernels' cases, fits of `dlcore.Trainer`, and those of the estimators.
Equal lines are equal bits::

    PYTHONPATH=PATH python -m support.fingerprint
"""

import warnings

import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning

import dlcore as dl
from dlcore.sklearn import MinMaxScaler, MLPClassifier, MLPRegressor, StandardScaler
from support.cases import CASES, DTYPES
from support.hashing import Hash

LOSSES = {
    "mse": (dl.MSELoss, lambda y: np.stack([y / 10, y % 3], axis=1)),
    "huber": (lambda: dl.HuberLoss(0.3), lambda y: np.stack([y / 10, y % 3], axis=1)),
    "bce": (dl.BCEWithLogitsLoss, lambda y: np.stack([y > 4, y % 2], axis=1)),
    "quantile": (lambda: dl.QuantileLoss([0.1, 0.9]), lambda y: np.stack([y / 10] * 2, axis=1)),
    "poisson": (dl.PoissonNLLLoss, lambda y: np.stack([y, y % 3], axis=1)),
    "focal": (lambda: dl.FocalLoss(1.5), lambda y: y % 2),
}
LAYERS = {
    "relu": lambda n: [dl.Linear(64, n), dl.ReLU(), dl.Linear(n, n), dl.ReLU()],
    "batch_norm": lambda n: [dl.Linear(64, n), dl.BatchNorm1d(n), dl.LeakyReLU(0.1)],
    "layer_norm": lambda n: [dl.Linear(64, n), dl.LayerNorm(n), dl.GELU(), dl.Dropout(0.3)],
    "smooth": lambda n: [dl.Linear(64, n), dl.SiLU(), dl.Linear(n, n), dl.Tanh(), dl.ELU()],
    "sigmoid": lambda n: [dl.Linear(64, n, max_norm=1.0), dl.Sigmoid(), dl.Softplus()],
}
OPTIMIZERS = {
    "sgd": lambda p: dl.SGD(p, 0.05),
    "momentum": lambda p: dl.SGD(p, 0.05, momentum=0.9, nesterov=True, weight_decay=1e-4),
    "adam": lambda p: dl.Adam(p, 3e-3),
    "adamw": lambda p: dl.AdamW(p, 3e-3, amsgrad=True),
    "sparse": lambda p: dl.Adam(p, 3e-3, l1=1e-4),
}
FITS = {
    "plain": {},
    "clipped": {"clip_grad_norm": 1.0, "accumulate": 2},
    "scheduled": {"schedule": dl.OneCycleLR(0.02, total_steps=60), "clip_grad_value": 0.1},
}
ESTIMATORS = {
    "classifier": lambda: MLPClassifier((32,), max_iter=12, random_state=0),
    "options": lambda: MLPClassifier(
        (24, 12),
        solver="adamw",
        activation="gelu",
        dropout=0.2,
        batch_norm=True,
        early_stopping=True,
        class_weight="balanced",
        label_smoothing=0.1,
        max_iter=12,
        random_state=0,
    ),
    "sgd": lambda: MLPClassifier(
        (16,), solver="sgd", learning_rate="adaptive", max_iter=20, random_state=0
    ),
    "lbfgs": lambda: MLPClassifier((16,), solver="lbfgs", max_iter=20, random_state=0),
    "focal": lambda: MLPClassifier((16,), focal_gamma=2.0, l1=1e-4, max_iter=8, random_state=0),
    "regressor": lambda: MLPRegressor(hidden_layer_sizes=(32,), max_iter=12, random_state=0),
    "huber": lambda: MLPRegressor(
        "huber",
        hidden_layer_sizes=(16,),
        clip_grad_norm=1.0,
        early_stopping=True,
        max_iter=12,
        random_state=0,
    ),
}


def say(name, digest):
    """Print a line at once: what follows takes a while."""
    print(f"{digest}  {name}", flush=True)


def kernels():
    """Hash each kernel over all its cases, shapes and both dtypes."""
    digests = {}
    for case in CASES:
        digest = digests.setdefault(case.name, Hash())
        for dtype in DTYPES:
            for shape in case.shapes:
                with np.errstate(all="ignore"):
                    digest.add(*case.run(case.inputs(shape, dtype)))
    for name, digest in digests.items():
        say(f"kernel {name}", digest)


def fits():
    """Hash parameters, outputs and history of seeded fits on the digits."""
    x, y = load_digits(return_X_y=True)
    weight = np.random.default_rng(1).uniform(0, 2, len(y))
    for layers, make in LAYERS.items():
        digest = Hash()
        for dtype in DTYPES:
            for width in (16, 80):
                for optimizer, update in OPTIMIZERS.items():
                    for kind, options in FITS.items():
                        if optimizer != "adam" and kind != "plain":
                            continue
                        model = dl.Sequential(
                            *make(width), dl.Linear(width, 10), dtype=dtype, seed=0
                        )
                        trainer = dl.Trainer(
                            model,
                            loss=dl.CrossEntropyLoss(label_smoothing=0.05),
                            optimizer=update(model.parameters()),
                            metrics=["accuracy"],
                            seed=0,
                            **options,
                        )
                        history = trainer.fit(
                            x.astype(dtype) / dtype(16),
                            y,
                            epochs=3,
                            batch_size=100,
                            validation_split=0.1,
                            sample_weight=weight if kind == "clipped" else None,
                            callbacks=[dl.EarlyStopping(patience=2)],
                            verbose=0,
                        )
                        digest.add(model.flat, trainer.predict(x[:300].astype(dtype)))
                        digest.add(*(history[name] for name in ("loss", "accuracy", "val_loss")))
        say(f"fits {layers}", digest)


def losses():
    """Hash fits with each loss, in one batch and in mini-batches."""
    x, y = load_digits(return_X_y=True)
    for name, (make, targets) in LOSSES.items():
        digest = Hash()
        for dtype in DTYPES:
            for batch_size in (64, 2000):
                model = dl.Sequential(
                    dl.Linear(64, 24), dl.Tanh(), dl.Linear(24, 2), dtype=dtype, seed=0
                )
                trainer = dl.Trainer(model, loss=make(), optimizer="adam", seed=0)
                target = targets(y)
                history = trainer.fit(
                    x.astype(dtype) / dtype(16),
                    target if target.ndim == 1 else target.astype(dtype),
                    epochs=3,
                    batch_size=batch_size,
                    sample_weight=1.0 + y,
                    verbose=0,
                )
                digest.add(model.flat, history["loss"])
        say(f"loss {name}", digest)


def estimators():
    """Hash parameters, predictions and losses of estimators, and the scalers' results."""
    x, y = load_digits(return_X_y=True)
    for name, make in ESTIMATORS.items():
        digest = Hash()
        for dtype in DTYPES:
            data = x.astype(dtype) / dtype(16)
            target = y if "Classifier" in type(make()).__name__ else (y / 10).astype(dtype)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                estimator = make().fit(data, target)
            digest.add(*estimator.coefs_, *estimator.intercepts_, estimator.predict(data))
            digest.add(getattr(estimator, "loss_curve_", 0), estimator.n_iter_)
        say(f"estimator {name}", digest)
    for make in (StandardScaler, MinMaxScaler):
        digest = Hash()
        for dtype in DTYPES:
            digest.add(make().fit_transform(x.astype(dtype)))
        say(f"scaler {make.__name__}", digest)


if __name__ == "__main__":
    kernels()
    fits()
    losses()
    estimators()
