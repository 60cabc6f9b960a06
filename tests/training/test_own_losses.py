"""A loss that is a subclass of a built-in one and changes nothing trains as the loss itself."""

import numpy as np
import pytest

import dlcore as dl

F64 = np.float64


class OwnMSE(dl.MSELoss):
    pass


class OwnCrossEntropy(dl.CrossEntropyLoss):
    pass


def rows(n=80):
    x = np.random.default_rng(0).normal(size=(n, 4))
    return x, x[:, :3].argmax(1), x[:, :3].copy()


LATE = np.where(np.arange(80) < 40, 0.0, 1.0)
OPTIONS = {
    "plain": ({}, {}),
    "no weight in the first batches": ({}, {"sample_weight": LATE}),
    "the same, batches accumulated": ({"accumulate": 3}, {"sample_weight": LATE}),
    "no weight in the last batches": ({"accumulate": 3}, {"sample_weight": LATE[::-1]}),
    "weights": ({}, {"sample_weight": np.linspace(0, 2, 80)}),
    "weights, batches accumulated": ({"accumulate": 4}, {"sample_weight": np.linspace(0, 2, 80)}),
    "clipped": ({"clip_grad_norm": 0.01}, {}),
    "clipped by value": ({"clip_grad_value": 0.01}, {}),
    "average": ({"callbacks": [dl.ExponentialMovingAverage(0.8)]}, {"sample_weight": LATE}),
}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("per", ["epoch", "iteration"])
@pytest.mark.parametrize("kind", ["values", "classes", "stream"])
def test_it_trains_as_the_built_in_one(name, per, kind):
    """keras#545: schedules and counts move with the updates that were made."""
    x, labels, values = rows()
    of_trainer, of_fit = OPTIONS[name]
    built_in, own = (dl.CrossEntropyLoss(label_smoothing=0.1), OwnCrossEntropy(label_smoothing=0.1))
    y = labels
    if kind == "values":
        (built_in, own), y = (dl.MSELoss(), OwnMSE()), values
    ends = []
    for loss in (built_in, own):
        layers = dl.Linear(4, 6), dl.BatchNorm1d(6), dl.Tanh(), dl.Dropout(0.2), dl.Linear(6, 3)
        model = dl.Sequential(*layers, dtype=F64, seed=0)
        sgd = dl.SGD(model.parameters(), lr=0.1, momentum=0.5)
        schedule = dl.CosineAnnealingLR(30, per=per)
        trainer = dl.Trainer(
            model, loss=loss, optimizer=sgd, schedule=schedule, seed=0, **of_trainer
        )
        options = {"epochs": 2, "log_every": 1, "verbose": 0}
        if kind == "stream":
            weight = of_fit.get("sample_weight", np.ones(80))
            parts = [slice(i, i + 10) for i in range(0, 80, 10)]
            history = trainer.fit([(x[i], y[i], weight[i]) for i in parts], **options)
        else:
            history = trainer.fit(x, y, batch_size=10, shuffle=False, **options, **of_fit)
        ends.append((model.flat, history, sgd.lr, sgd.steps))
    np.testing.assert_allclose(ends[0][0], ends[1][0], rtol=1e-9, atol=1e-12)
    for of in (lambda end: end[1]["loss"], lambda end: end[1].iterations["lr"]):
        np.testing.assert_allclose(of(ends[0]), of(ends[1]), rtol=1e-9)
    assert ends[0][2:] == ends[1][2:]
    assert ends[0][1].iteration == ends[1][1].iteration
    assert ends[0][1].iteration[-1] == ends[0][3] == len(ends[0][1].iterations["loss"])
