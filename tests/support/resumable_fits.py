"""Fits of many kinds that are cut off and resumed: the same arguments in each process."""

from pathlib import Path

import numpy as np

import dlcore as dl

EPOCHS = 6


def rows(count=90):
    """Return x, y and weights of the rows, a few of which weigh nothing."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, 6)).astype(np.float32)
    y = (x[:, 0] + x[:, 1] ** 2 + rng.normal(size=count) > 0.5).astype(np.int64) + (x[:, 2] > 1)
    return x, y, rng.integers(0, 3, count).astype(float)


def network(*middle):
    """Return a network with these layers after its first one."""
    return dl.Sequential(dl.Linear(6, 12), *middle, dl.ReLU(), dl.Linear(12, 3), seed=1)


class Batches:
    """Gives the same batches in each epoch."""

    def __iter__(self):
        x, y, _ = rows()
        for start in range(0, len(x), 8):
            yield x[start : start + 8], y[start : start + 8]


class Counted(dl.Callback):
    """Keeps state of its own and logs it, and changes the training by it."""

    def __init__(self):
        self.seen = 0

    def on_fit_begin(self):
        """Begin anew."""
        self.seen = 0

    def on_epoch_end(self, epoch, logs):  # noqa: ARG002
        """Count, log, and change options."""
        self.seen += 1
        logs["seen"] = float(self.seen)
        model = self.trainer.model
        if self.seen == 2:
            model.freeze("0")
        elif self.seen == 4:
            model.unfreeze("0.weight")
            self.trainer.clip_grad_norm = 0.5
            model[1].p = 0.4

    def state_dict(self):
        """Return what was counted."""
        return {"seen": self.seen}

    def load_state_dict(self, state):
        """Take it over."""
        self.seen = state["seen"]


def _numbered(seed=0):
    x, y, _ = rows()
    while True:
        some = np.random.default_rng(seed).integers(len(x), size=8)
        yield x[some], y[some]
        seed += 1


def _noise(batch, rng):
    return batch + rng.normal(scale=0.1, size=batch.shape).astype(batch.dtype)


def _mean_logit(y_true, outputs):
    return float(outputs.mean())


class _SignStep(dl.Optimizer):
    state_names = ("average",)

    def __init__(self, params, lr=1e-3):
        super().__init__(params, {"lr": lr})

    def update(self, params, grads, state, options):
        """Step by the sign of a running mean."""
        for p, g, average in zip(params, grads, state["average"], strict=True):
            average += 0.1 * (g - average)
            p -= options["lr"] * np.sign(average)


def _of(model, optimizer, **options):
    return dl.Trainer(model, loss="cross_entropy", optimizer=optimizer, seed=3, **options)


def sgd():
    """SGD with momentum, and a schedule of epochs."""
    model = network()
    optimizer = dl.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return _of(model, optimizer, schedule=dl.CosineAnnealingLR(EPOCHS)), {}


def adam():
    """Adam with dropout, a schedule of iterations, and lines of iterations."""
    model = network(dl.Dropout(0.3))
    optimizer = dl.Adam(model.parameters(), lr=1e-2, amsgrad=True)
    schedule = dl.OneCycleLR(0.02, total_steps=EPOCHS * 12, per="iteration")
    return _of(model, optimizer, schedule=schedule), {"log_every": 5}


def adamw():
    """AdamW with batch normalization, a validation split, metrics and groups."""
    model = network(dl.BatchNorm1d(12))
    groups = [{"params": model.parameters("0", "1")}, {"params": model.parameters("3"), "lr": 0.1}]
    optimizer = dl.AdamW(groups, lr=1e-2)
    metrics = ["accuracy", "f1", _mean_logit]
    return _of(model, optimizer, metrics=metrics), {"validation_split": 0.3}


def accumulated():
    """Three batches an update, weights of rows and of classes, limited norms."""
    model = network(dl.LayerNorm(12))
    trainer = _of(model, "adam", accumulate=3, clip_grad_norm=1.0, metrics=["accuracy"])
    return trainer, {"class_weight": "balanced", "sample_weight": rows()[2]}


def plateau():
    """Smaller rates on a plateau."""
    model = network()
    reduce = dl.ReduceLROnPlateau("val_loss", patience=1, threshold=0.3, factor=0.5)
    trainer = _of(model, dl.SGD(model.parameters(), lr=0.3), schedule=reduce)
    return trainer, {"validation_split": 0.2}


def early_stopping():
    """A fit that is stopped, and gives back its best epoch."""
    model = network(dl.Dropout(0.5))
    stopping = dl.EarlyStopping("val_loss", patience=2)
    trainer = _of(model, dl.Adam(model.parameters(), lr=0.1), callbacks=[stopping])
    return trainer, {"validation_split": 0.3}


def moving_average():
    """A moving average whose best is given back, with batch normalization."""
    model = network(dl.BatchNorm1d(12))
    callbacks = [dl.EarlyStopping("val_loss", patience=50), dl.ExponentialMovingAverage(0.9)]
    trainer = _of(model, "adam", callbacks=callbacks, metrics=["accuracy"])
    return trainer, {"validation_split": 0.3}


def stochastic_average():
    """The mean of the weights of the last epochs, with new running statistics."""
    model = network(dl.BatchNorm1d(12))
    swa = dl.StochasticWeightAveraging(2)
    return _of(model, dl.SGD(model.parameters(), lr=0.1), callbacks=[swa]), {}


def augmented():
    """Rows that are changed, and mixed, in other threads."""
    return _of(network(dl.Dropout(0.2)), "adam"), {"transform": _noise, "mix": dl.mixup(0.3)}


def streamed():
    """Batches of an iterable, two to an update."""
    return _of(network(dl.Dropout(0.2)), "adam", accumulate=2), {"stream": Batches()}


def endless():
    """Batches without an end, some of them for each epoch and each validation."""
    trainer = _of(network(), "adam")
    options = {"stream": _numbered(), "steps_per_epoch": 5, "validation_data": _numbered(100)}
    return trainer, options | {"validation_steps": 3, "validation_freq": 2}


def own_parts():
    """An optimizer and a callback of one's own, which freezes layers and sets options."""
    model = network(dl.Dropout(0.2))
    return _of(model, _SignStep(model.parameters(), 1e-2), callbacks=[Counted()]), {}


FITS = {
    make.__name__: make
    for make in (
        *(sgd, adam, adamw, accumulated, plateau, early_stopping),
        *(moving_average, stochastic_average, augmented, streamed, endless, own_parts),
    )
}


def fit(name, *, resume=None, callbacks=(), epochs=EPOCHS, comm=None):
    """Fit by all epochs; return what has to be the same to the bit, as one comparable value."""
    trainer, options = FITS[name]()
    trainer.comm = comm
    stream = options.pop("stream", None)
    data = rows()[:2] if stream is None else (stream,)
    given = {} if stream is not None else {"batch_size": 8}
    history = trainer.fit(
        *data,
        epochs=epochs,
        callbacks=list(callbacks),
        resume=resume,
        verbose=0,
        **given,
        **options,
    )
    return outcome(trainer, history)


def outcome(trainer, history):
    """Return the bits of a training and all that its history has."""
    state = trainer.state_dict()
    bits = [array.tobytes() for array in trainer.model.state_dict().values()]
    moments = [
        (key, name, np.asarray(value).tobytes())
        for key, own in state["optimizer"]["state"].items()
        for name, value in own.items()
    ]
    groups = [
        {k: v for k, v in group.items() if k != "params"}
        for group in trainer.optimizer.param_groups
    ]
    return {
        "model": bits,
        "optimizer": moments,
        "groups": groups,
        "generators": state["generators"],
        "schedule": state["schedule"],
        "history": {**history},
        "batches": history.batches,
        "vars": {name: repr(value) for name, value in vars(history).items()},
    }


def as_path(folder):
    """Return where the state of a fit is written."""
    return Path(folder) / "run.safetensors"
