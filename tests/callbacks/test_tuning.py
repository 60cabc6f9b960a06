"""`OptunaPruning` in studies of Optuna: what is reported, and what a pruned fit leaves behind."""

import copy
import sys
import warnings

import numpy as np
import pytest

import dlcore as dl

optuna = pytest.importorskip("optuna")
TrialState = optuna.trial.TrialState


@pytest.fixture(autouse=True)
def quiet():
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)


class PruneAfter(optuna.pruners.BasePruner):
    """Prune each trial after this epoch, counted from 0."""

    def __init__(self, epoch):
        self.epoch = epoch

    def prune(self, study, trial):  # noqa: ARG002
        return trial.last_step >= self.epoch


NEVER = PruneAfter(np.inf)


def new_study(pruner=NEVER, **options):
    return optuna.create_study(
        pruner=pruner, sampler=optuna.samplers.RandomSampler(seed=0), **options
    )


def rows(n=60, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    return rng.normal(size=(n, 4)) + 2 * np.eye(3, 4)[y], y


def new_trainer(*, lr=0.1, seed=0, layers=(), **options):
    model = dl.Sequential(
        dl.Linear(4, 8), dl.Tanh(), *layers, dl.Linear(8, 3), dtype=np.float64, seed=seed
    )
    sgd = dl.SGD(model.parameters(), lr=lr, momentum=0.5)
    return dl.Trainer(model, loss="cross_entropy", optimizer=sgd, seed=seed, **options)


def fit(trainer, epochs=6, **options):
    return trainer.fit(
        *rows(),
        epochs=epochs,
        **({"batch_size": 16, "verbose": 0, "validation_split": 0.2} | options),
    )


def pruned_fit(trainer, epoch, monitor="val_loss", **options):
    """A fit that is pruned after this epoch; returns its trial."""
    trial = new_study(PruneAfter(epoch)).ask()
    with pytest.raises(optuna.TrialPruned):
        fit(trainer, callbacks=[dl.OptunaPruning(trial, monitor)], **options)
    return trial


# ---- what is reported ----------------------------------------------------------------------------


@pytest.mark.parametrize("monitor", ["val_loss", "loss", "val_accuracy", "accuracy", "lr"])
def test_the_value_of_each_epoch_is_reported(monitor):
    trial = new_study().ask()
    trainer = new_trainer(metrics=["accuracy"], schedule=dl.ExponentialLR(0.9))
    history = fit(trainer, 5, callbacks=[dl.OptunaPruning(trial, monitor)])
    reported = trial.study.trials[0].intermediate_values
    assert reported == dict(enumerate(history[monitor]))
    assert list(reported) == [0, 1, 2, 3, 4]
    assert len(set(reported.values())) > 1


def test_the_default_is_the_loss_of_the_validation():
    assert dl.OptunaPruning(new_study().ask()).monitor == "val_loss"


def test_the_value_of_one_of_several_targets():
    x, y = rows()
    loss = dl.MultiTargetLoss({"kind": "cross_entropy", "first": "mse"}, [3, 1])
    model = dl.Sequential(dl.Linear(4, 4), dtype=np.float64, seed=0)
    trainer = dl.Trainer(model, loss=loss, seed=0)
    trial = new_study().ask()
    history = trainer.fit(
        x,
        {"kind": y, "first": x[:, 0].copy()},
        epochs=3,
        validation_split=0.3,
        callbacks=[dl.OptunaPruning(trial, "val_first_loss")],
        verbose=0,
    )
    assert list(trial.study.trials[0].intermediate_values.values()) == history["val_first_loss"]


def test_reporting_changes_no_bit_of_a_fit():
    plain, reporting = new_trainer(), new_trainer()
    histories = fit(plain), fit(reporting, callbacks=[dl.OptunaPruning(new_study().ask())])
    assert histories[0] == histories[1]
    np.testing.assert_array_equal(plain.model.flat, reporting.model.flat)


def test_a_trial_of_fixed_parameters_is_never_pruned():
    trial = optuna.trial.FixedTrial({"lr": 0.1})
    trainer = new_trainer(lr=trial.suggest_float("lr", 0.01, 1))
    assert len(fit(trainer, callbacks=[dl.OptunaPruning(trial)]).epoch) == 6


# ---- pruned trials -------------------------------------------------------------------------------


@pytest.mark.parametrize("epoch", [0, 2, 4])
def test_a_pruned_trial_ends_after_its_epoch(epoch):
    study, trainers = new_study(PruneAfter(epoch)), []

    def objective(trial):
        trainers.append(new_trainer(lr=trial.suggest_float("lr", 0.01, 0.2)))
        history = fit(trainers[-1], 5, callbacks=[dl.OptunaPruning(trial)])
        return history["val_loss"][-1]

    study.optimize(objective, n_trials=3)
    assert [trial.state for trial in study.trials] == [TrialState.PRUNED] * 3
    for trial, trainer in zip(study.trials, trainers, strict=True):
        reported = trainer.history["val_loss"]
        assert len(reported) == epoch + 1
        assert trial.intermediate_values == dict(enumerate(reported))
        assert trial.value == reported[-1]


def test_the_exception_of_a_pruned_fit_says_what_was_reported():
    trial = new_study(PruneAfter(1)).ask()
    trainer = new_trainer()
    with pytest.raises(optuna.TrialPruned) as error:
        fit(trainer, callbacks=[dl.OptunaPruning(trial, "loss")])
    assert str(error.value) == f"loss was {trainer.history['loss'][1]:.4g} in epoch 2"


def test_the_history_has_the_complete_epochs():
    plain, trainer = new_trainer(metrics=["accuracy"]), new_trainer(metrics=["accuracy"])
    expected = fit(plain, 3)
    pruned_fit(trainer, 2)
    assert trainer.history == expected
    assert trainer.history.epoch == [0, 1, 2]
    assert trainer.history.batches == [3, 3, 3]
    assert trainer.history.stopped_epoch is None


def test_a_pruned_model_is_that_of_its_last_epoch():
    x, y = rows(30, seed=1)
    trainer = new_trainer(layers=[dl.BatchNorm1d(8), dl.Dropout(0.5)])
    pruned_fit(trainer, 2)
    expected = new_trainer(layers=[dl.BatchNorm1d(8), dl.Dropout(0.5)])
    fit(expected, 3)
    np.testing.assert_array_equal(trainer.predict(x), trainer.predict(x))  # Dropout is off
    np.testing.assert_array_equal(trainer.predict(x), expected.predict(x))
    assert trainer.evaluate(x, y) == expected.evaluate(x, y)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_fit_after_a_pruned_one_goes_on(accumulate):
    layers = [dl.Dropout(0.3)]
    whole = new_trainer(layers=layers, accumulate=accumulate, schedule=dl.CosineAnnealingLR(6))
    parts = new_trainer(layers=layers, accumulate=accumulate, schedule=dl.CosineAnnealingLR(6))
    expected = fit(whole, 6)
    pruned_fit(parts, 1)
    history = fit(parts, 4)
    assert {name: values[2:] for name, values in expected.items()} == history
    np.testing.assert_array_equal(whole.model.flat, parts.model.flat)


@pytest.mark.parametrize("verbose", [1, 2])
def test_a_pruned_fit_shows_its_epochs(verbose, capsys):
    pruned_fit(new_trainer(), 1, verbose=verbose)
    shown = capsys.readouterr().out
    assert [line.split()[1] for line in shown.splitlines() if "val_loss" in line] == ["1/6", "2/6"]


def test_callbacks_before_it_see_the_last_epoch_and_those_after_it_do_not():
    class Note(dl.Callback):
        def __init__(self):
            self.seen = []

        def on_epoch_end(self, epoch, logs):  # noqa: ARG002
            self.seen.append(epoch)

        def on_fit_end(self):
            self.seen.append("end")

    before, after = Note(), Note()
    trial = new_study(PruneAfter(1)).ask()
    with pytest.raises(optuna.TrialPruned):
        fit(new_trainer(), callbacks=[before, dl.OptunaPruning(trial), after])
    assert (before.seen, after.seen) == ([0, 1, "end"], [0, "end"])


# ---- with real pruners ---------------------------------------------------------------------------


def test_the_median_pruner_ends_hopeless_trials_alone():
    lrs = [0.1, 0.05, 0.2, 1e-6, 0.1, 1e-7]
    study = new_study(optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=1))
    for lr in lrs:
        study.enqueue_trial({"lr": lr})

    def objective(trial):
        trainer = new_trainer(lr=trial.suggest_float("lr", 1e-8, 1.0, log=True))
        return min(fit(trainer, callbacks=[dl.OptunaPruning(trial)])["val_loss"])

    study.optimize(objective, n_trials=len(lrs))
    assert [trial.state == TrialState.PRUNED for trial in study.trials] == [
        False, False, False, True, False, True,
    ]  # fmt: skip
    assert [len(trial.intermediate_values) for trial in study.trials] == [6, 6, 6, 2, 6, 2]
    assert study.best_params["lr"] >= 0.05


@pytest.mark.parametrize(("direction", "pruned"), [("maximize", True), ("minimize", False)])
def test_the_direction_of_the_study_says_which_way_is_better(direction, pruned):
    study = new_study(optuna.pruners.MedianPruner(1, 2), direction=direction)
    study.enqueue_trial({"lr": 0.1})
    study.enqueue_trial({"lr": 1e-9})

    def objective(trial):
        trainer = new_trainer(lr=trial.suggest_float("lr", 1e-10, 1.0), metrics=["accuracy"])
        history = fit(trainer, callbacks=[dl.OptunaPruning(trial, "val_accuracy")])
        return history["val_accuracy"][-1]

    study.optimize(objective, n_trials=2)
    assert (study.trials[1].state == TrialState.PRUNED) == pruned


def test_nan_is_reported_and_pruned():
    def undefined(y_true, outputs):
        return np.nan

    study = new_study(optuna.pruners.ThresholdPruner(upper=1e9))
    trial = study.ask()
    trainer = new_trainer(metrics=[undefined])
    with pytest.raises(optuna.TrialPruned, match="val_undefined was nan in epoch 1"):
        fit(trainer, callbacks=[dl.OptunaPruning(trial, "val_undefined")])
    assert np.isnan(study.trials[0].intermediate_values[0])


def test_a_fit_that_diverges_fails_its_trial_and_no_other():
    study = new_study()
    for lr in (1e308, 0.1):
        study.enqueue_trial({"lr": lr})

    def objective(trial):
        trainer = new_trainer(lr=trial.suggest_float("lr", 0.0, 1e308))
        return fit(trainer, callbacks=[dl.OptunaPruning(trial)])["val_loss"][-1]

    study.optimize(objective, n_trials=2, catch=FloatingPointError)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.COMPLETE]
    assert study.best_params == {"lr": 0.1}


# ---- beside other callbacks ----------------------------------------------------------------------


def test_the_average_of_the_weights_is_what_is_reported():
    trainer = new_trainer(lr=0.3)
    trial = new_study(PruneAfter(2)).ask()
    average, x, y = dl.ExponentialMovingAverage(0.9), *rows(30, seed=1)
    with pytest.raises(optuna.TrialPruned):
        fit(
            trainer,
            callbacks=[average, dl.OptunaPruning(trial)],
            validation_split=0.0,
            validation_data=(x, y),
        )
    reported = trial.study.trials[0].intermediate_values
    assert trainer.evaluate(x, y)["loss"] == reported[2]
    plain = new_trainer(lr=0.3)
    fit(plain, 3, validation_split=0.0)
    assert plain.evaluate(x, y)["loss"] != reported[2]
    history = fit(trainer, 2, callbacks=[average])
    assert len(history["val_loss"]) == 2


@pytest.mark.parametrize("order", [1, -1])
def test_early_stopping_may_end_the_fit_first(order):
    trial = new_study(PruneAfter(4)).ask()
    stopping = dl.EarlyStopping(mode="max", patience=2)  # the loss falls
    callbacks = [stopping, dl.OptunaPruning(trial)][::order]
    history = fit(new_trainer(), 9, callbacks=callbacks)
    assert history.stopped_epoch == 2
    assert trial.study.trials[0].intermediate_values == dict(enumerate(history["val_loss"]))


@pytest.mark.parametrize("order", [1, -1])
def test_a_pruned_fit_restores_the_best_epoch(order):
    trainer, plain = new_trainer(), new_trainer()
    trial = new_study(PruneAfter(3)).ask()
    callbacks = [dl.EarlyStopping(mode="max", patience=9), dl.OptunaPruning(trial)][::order]
    with pytest.raises(optuna.TrialPruned):
        fit(trainer, 9, callbacks=callbacks)
    fit(plain, 1)  # the loss falls
    np.testing.assert_array_equal(trainer.model.flat, plain.model.flat)


# ---- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("monitor", "options", "hint"),
    [
        ("val_loss", {"validation_split": 0.0}, "; validation_data or validation_split gives"),
        ("val_acuracy", {}, "val_loss, val_accuracy; did you mean 'val_accuracy'"),
        ("f1", {}, "logs only loss, accuracy, val_loss, val_accuracy$"),
    ],
)
def test_a_value_that_is_not_logged_is_an_error_before_the_training(monitor, options, hint):
    trial, trainer = new_study().ask(), new_trainer(metrics=["accuracy"])
    before = trainer.model.flat.copy()
    with pytest.raises(ValueError, match=f"OptunaPruning monitors '{monitor}'.*{hint}"):
        fit(trainer, callbacks=[dl.OptunaPruning(trial, monitor)], **options)
    np.testing.assert_array_equal(trainer.model.flat, before)
    assert trial.study.trials[0].intermediate_values == {}
    assert trainer.history.epoch == []
    assert fit(trainer, 1).epoch == [0]


def test_without_optuna_the_error_says_how_to_install_it(monkeypatch):
    trial = new_study().ask()
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r"needs Optuna: pip install 'dlcore-kernels\[optuna\]'"):
        dl.OptunaPruning(trial)


@pytest.mark.parametrize("make", [lambda: None, lambda: 3, lambda: "trial", new_study])
def test_what_is_no_trial_is_an_error(make):
    with pytest.raises(TypeError, match="OptunaPruning: trial must be one of Optuna's, not "):
        dl.OptunaPruning(make())


# ---- with the estimators of dlcore.sklearn -------------------------------------------------------


def estimator(**options):
    sklearn = pytest.importorskip("dlcore.sklearn")
    return sklearn.MLPClassifier(
        (8,), **({"random_state": 0, "max_iter": 20, "n_iter_no_change": 99} | options)
    )


@pytest.mark.parametrize("monitor", ["loss", "val_loss", "val_score"])
def test_an_estimator_is_pruned(monitor):
    x, y = rows()
    options = {} if monitor == "loss" else {"early_stopping": True}
    trial = new_study(PruneAfter(3)).ask()
    pruned = estimator(callbacks=[dl.OptunaPruning(trial, monitor)], **options)
    with pytest.raises(optuna.TrialPruned, match=f"{monitor} was .* in epoch 4"):
        pruned.fit(x, y)
    curve = {
        "loss": lambda: pruned.loss_curve_,
        "val_loss": lambda: pruned.validation_loss_curve_,
        "val_score": lambda: pruned.validation_scores_,
    }[monitor]()
    assert trial.study.trials[0].intermediate_values == dict(enumerate(curve))
    assert len(curve) == pruned.n_iter_ == 4
    assert pruned.history_[monitor] == curve
    again = pruned.predict_proba(x)
    np.testing.assert_allclose(again.sum(1), 1)
    np.testing.assert_array_equal(pruned.predict_proba(x), again)


def test_an_estimator_can_be_fitted_again_after_a_pruned_fit():
    x, y = rows()
    trial = new_study(PruneAfter(2)).ask()
    pruned = estimator(max_iter=5, callbacks=[dl.OptunaPruning(trial, "loss")], tol=0.0)
    with pytest.raises(optuna.TrialPruned):
        pruned.fit(x, y)
    pruned.set_params(callbacks=None)
    with pytest.warns(UserWarning, match="Maximum iterations"):
        pruned.fit(x, y)
    plain = estimator(max_iter=5, tol=0.0)
    with pytest.warns(UserWarning, match="Maximum iterations"):
        plain.fit(x, y)
    assert pruned.loss_curve_ == plain.loss_curve_
    np.testing.assert_array_equal(pruned.predict_proba(x), plain.predict_proba(x))


def test_a_value_that_an_estimator_does_not_log():
    pruned = estimator(callbacks=[dl.OptunaPruning(new_study().ask())])
    with pytest.raises(
        ValueError, match="OptunaPruning monitors 'val_loss', but this fit logs only"
    ):
        pruned.fit(*rows())


def test_a_regressor_prunes_hopeless_trials_of_a_study():
    sklearn = pytest.importorskip("dlcore.sklearn")
    x, _ = rows()
    y = x @ [1.0, -2.0, 0.5, 0.0]
    study = new_study(optuna.pruners.MedianPruner(1, 1))
    for rate in (0.01, 1e-7):
        study.enqueue_trial({"rate": rate})

    def objective(trial):
        model = sklearn.MLPRegressor(
            hidden_layer_sizes=(8,),
            learning_rate_init=trial.suggest_float("rate", 1e-8, 1.0, log=True),
            early_stopping=True,
            max_iter=30,
            random_state=0,
            callbacks=[dl.OptunaPruning(trial)],
        )
        return min(model.fit(x, y).validation_loss_curve_)

    with pytest.warns(UserWarning, match="Maximum iterations"):
        study.optimize(objective, n_trials=2)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE, TrialState.PRUNED]
    assert len(study.trials[1].intermediate_values) == 2


def test_copies_report_to_the_same_trial():
    trial = new_study().ask()
    own = dl.OptunaPruning(trial, "loss")
    other = copy.deepcopy({"callbacks": [own]})["callbacks"][0]
    assert other is not own
    assert type(other) is dl.OptunaPruning
    assert other.trial is trial
    assert other.monitor == "loss"


def test_a_clone_in_a_pipeline_prunes_the_trial_of_the_study():
    pytest.importorskip("dlcore.sklearn")
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline

    from dlcore.sklearn import StandardScaler

    study = new_study(PruneAfter(1))

    def objective(trial):
        mlp = estimator(callbacks=[dl.OptunaPruning(trial, "loss")])
        return cross_val_score(
            make_pipeline(StandardScaler(), mlp), *rows(), cv=3, error_score="raise"
        ).mean()

    study.optimize(objective, n_trials=1)
    assert study.trials[0].state == TrialState.PRUNED
    assert list(study.trials[0].intermediate_values) == [0, 1]


def test_of_several_folds_the_first_is_reported():
    from sklearn.base import clone
    from sklearn.model_selection import KFold

    study = new_study()
    trial = study.ask()
    x, y = rows()
    own = estimator(max_iter=3, callbacks=[dl.OptunaPruning(trial, "loss")])
    curves = []
    for fold, (train, _) in enumerate(KFold(2).split(x)):
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            curves.append(clone(own).fit(x[train], y[train]).loss_curve_)
        texts = [str(warning.message) for warning in warned]
        assert sum("is already reported" in text for text in texts) == 3 * fold
    assert curves[0] != curves[1]
    assert list(study.trials[0].intermediate_values.values()) == curves[0]
