"""An EnsembleMean within a network can be computed, and training says that it cannot be trained."""

import numpy as np
import pytest

import dlcore as dl

NETS = {
    "before others": lambda: [dl.LinearEnsemble(3, 2, 4), dl.EnsembleMean(), dl.Tanh()],
    "in a branch": lambda: [
        dl.Parallel([dl.Linear(3, 2)], [dl.LinearEnsemble(3, 2, 4), dl.EnsembleMean()])
    ],
    "in a branch before": lambda: [
        dl.Parallel([dl.LinearEnsemble(3, 2, 4), dl.EnsembleMean()], ()),
        dl.Linear(5, 2),
    ],
    "twice": lambda: [
        *(dl.LinearEnsemble(3, 2, 4), dl.EnsembleMean()),
        *(dl.LinearEnsemble(2, 2, 4), dl.EnsembleMean()),
    ],
}


@pytest.mark.parametrize("name", NETS)
def test_a_mean_that_is_not_at_the_end(name):
    model = dl.Sequential(*NETS[name](), seed=0)
    x = np.ones((5, 3), np.float32)
    outputs = model(x)
    before = model.flat.copy()
    trainer = dl.Trainer(model, loss="mse", seed=0)
    with pytest.raises(ValueError, match="EnsembleMean can be trained as the last layer"):
        trainer.fit(x, np.zeros_like(outputs), epochs=1, verbose=0)
    with pytest.raises(ValueError, match="EnsembleMean can be trained as the last layer"):
        trainer.train_on_batch(x, np.zeros_like(outputs))
    with pytest.raises(ValueError, match="EnsembleMean can be trained as the last layer"):
        model.forward(x)
    np.testing.assert_array_equal(model.flat, before)


def test_a_mean_at_the_end_of_a_model_within():
    inner = dl.Sequential(dl.LinearEnsemble(3, 2, 4), dl.EnsembleMean(), seed=0)
    model = dl.Sequential(dl.Linear(3, 3), inner, seed=0)
    x, y = np.ones((5, 3), np.float32), np.zeros((5, 2), np.float32)
    history = dl.Trainer(model, loss="mse", seed=0).fit(x, y, epochs=30, verbose=0)
    assert history["loss"][-1] < history["loss"][0]
