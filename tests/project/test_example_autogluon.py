"""The example for AutoGluon does what AutoGluon's AbstractModel asks of a model.

AutoGluon is a stand-in here, of the few methods that the model uses, as they are in
autogluon.core 1.6; ``examples/autogluon/judge.py`` runs with AutoGluon itself.
"""

import pickle
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("sklearn")
pd = pytest.importorskip("pandas")
EXAMPLE = Path(__file__).parents[2] / "examples" / "autogluon"


class AbstractModel:
    """What the model uses of AutoGluon's: parameters, preprocessing, one form of probabilities."""

    seed_name = None

    def __init__(self, problem_type, eval_metric, hyperparameters=None):
        self.problem_type = problem_type
        self.stopping_metric = SimpleNamespace(name=eval_metric)
        self.params = dict(hyperparameters or {})

    def fit(self, **kwargs):
        self._set_default_params()
        self.params.setdefault(self.seed_name, 0)
        self._fit(**kwargs)
        return self

    def _set_default_param_value(self, name, value):
        self.params.setdefault(name, value)

    def _get_model_params(self):
        return self.params.copy()

    def preprocess(self, X, **kwargs):  # noqa: ARG002
        return X

    def predict_proba(self, X):
        return self._predict_proba(X)

    def _predict_proba(self, X, **kwargs):
        X = self.preprocess(X, **kwargs)
        if self.problem_type == "regression":
            return self.model.predict(X)
        probabilities = self.model.predict_proba(X)
        return probabilities[:, 1] if self.problem_type == "binary" else probabilities


@pytest.fixture
def example(monkeypatch):
    for name in ("autogluon", "autogluon.core", "autogluon.core.models"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["autogluon.core.models"].AbstractModel = AbstractModel
    monkeypatch.syspath_prepend(EXAMPLE)
    monkeypatch.delitem(sys.modules, "dlcore_model", raising=False)
    import dlcore_model

    yield dlcore_model
    del sys.modules["dlcore_model"]


def table(rows, kind):
    rng = np.random.default_rng(0)
    x = pd.DataFrame(
        {
            "number": rng.normal(size=rows),
            "gaps": np.where(rng.random(rows) < 0.2, np.nan, rng.normal(size=rows)),
            "category": pd.Categorical(rng.choice(["a", "b", None], rows)),
        },
        index=np.arange(rows) + 1000,  # of a fold, which is not from 0
    )
    score = x["number"] + (x["category"] == "a")
    if kind == "regression":
        return x, score
    return x, pd.Series(np.digitize(score, [0.5] if kind == "binary" else [0, 1]), index=x.index)


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_it_fits_and_predicts(example, kind):
    assert kind in example.DlcoreModel.supported_problem_types()
    x, y = table(160, kind)
    metric = "root_mean_squared_error" if kind == "regression" else "log_loss"
    model = example.DlcoreModel(kind, metric, {"max_epochs": 40})
    model.fit(X=x[:100], y=y[:100], X_val=x[100:120], y_val=y[100:120], num_cpus=1, num_gpus=0)
    predicted = model.predict_proba(x[120:])
    assert predicted.shape == ((40, 3) if kind == "multiclass" else (40,))
    if kind == "regression":
        assert np.square(predicted - y[120:]).mean() < y.var() / 2
    else:
        labels = predicted.argmax(1) if kind == "multiclass" else predicted > 0.5
        assert (labels == y[120:]).mean() > 0.7
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(x[120:]), predicted)


@pytest.mark.parametrize(("metric", "wanted"), [("accuracy", "accuracy"), ("roc_auc", "log_loss")])
def test_the_metric_is_what_the_best_epoch_is_chosen_by(example, metric, wanted):
    x, y = table(60, "binary")
    model = example.DlcoreModel("binary", metric, {"max_epochs": 1}).fit(X=x, y=y, num_cpus=1)
    assert model.model.validation_metric == wanted
    # Without rows to validate on none are held out.
    assert model.model.validation_fraction == 0


def test_a_time_limit_is_kept(example):
    x, y = table(200, "regression")
    model = example.DlcoreModel("regression", "root_mean_squared_error")
    model.fit(X=x, y=y, time_limit=0.5, num_cpus="auto")
    assert 0 < model.model.time_limit <= 0.5 * example.SHARE
    assert np.isfinite(model.predict_proba(x)).all()
