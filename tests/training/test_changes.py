"""What is changed while a fit is under way acts from the next epoch on, or is an error."""

import numpy as np
import pytest

import dlcore as dl

F64 = np.float64


def rows(n=60, features=4, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, features))
    return x, x[:, :3].argmax(1)


def network(seed=0):
    layers = dl.Linear(4, 8), dl.BatchNorm1d(8), dl.ReLU(), dl.Dropout(0.3), dl.Linear(8, 3)
    return dl.Sequential(*layers, dtype=F64, seed=seed)


def trainer_of(model, loss="cross_entropy", **options):
    sgd = dl.SGD(model.parameters(), lr=0.3, momentum=0.5)
    return dl.Trainer(model, loss=loss, optimizer=sgd, seed=0, **options)


def fit(trainer, epochs, **options):
    x, y = rows()
    return trainer.fit(x, y, epochs=epochs, **({"batch_size": 10, "verbose": 0} | options))


class At(dl.Callback):
    """Changes something when an epoch begins."""

    def __init__(self, epoch, change):
        self.epoch, self.change = epoch, change

    def on_epoch_begin(self, epoch):
        if epoch == self.epoch:
            self.change(self.trainer)


def set_p(trainer):
    trainer.model[3].p = 0.0


def set_momentum(trainer):
    trainer.model[1].momentum = 0.9


def set_eps(trainer):
    trainer.model[1].eps = 0.7


def set_max_norm(trainer):
    trainer.model[0].max_norm = 0.2


def freeze(trainer):
    trainer.model.freeze("0")
    trainer.model.freeze("1")


def unfreeze(trainer):
    trainer.model.unfreeze("4")


def set_accumulate(trainer):
    trainer.accumulate = 3


def set_clip_norm(trainer):
    trainer.clip_grad_norm = 1e-3


def set_clip_value(trainer):
    trainer.clip_grad_value = 1e-4


def set_smoothing(trainer):
    trainer.loss.label_smoothing = 0.4


def set_weight(trainer):
    trainer.loss.weight = np.array([0.0, 5.0, 1.0])


def set_ignored(trainer):
    trainer.loss.ignore_index = 1


def load_weights(trainer):
    trainer.model.load_state_dict(network(seed=5).state_dict())


def set_lr(trainer):
    trainer.optimizer.lr = 1e-3


CHANGES = [
    set_p,
    set_momentum,
    set_eps,
    set_max_norm,
    freeze,
    unfreeze,
    set_accumulate,
    set_clip_norm,
    set_clip_value,
    set_smoothing,
    set_weight,
    set_ignored,
    load_weights,
    set_lr,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("own", [False, True], ids=["native", "own loss"])
@pytest.mark.parametrize("average", [False, True])
def test_a_change_by_a_callback_is_one_between_two_fits(change, own, average):
    class Own(dl.CrossEntropyLoss):
        pass

    ends = []
    for in_callback in (True, False):
        model = network()
        if change is unfreeze:
            model.freeze("4")
        callbacks = [dl.ExponentialMovingAverage(0.8)] if average else []
        if average and change is load_weights:
            return  # is another average then
        trainer = trainer_of(model, Own() if own else dl.CrossEntropyLoss(), callbacks=callbacks)
        if in_callback:
            losses = fit(trainer, 4, callbacks=[At(2, change)])["loss"]
        else:
            losses = fit(trainer, 2)["loss"]
            change(trainer)
            losses += fit(trainer, 2)["loss"]
        ends.append((losses, model.state_dict()))
    assert ends[0][0] == ends[1][0]
    for name, value in ends[0][1].items():
        np.testing.assert_array_equal(value, ends[1][1][name])
    plain = trainer_of(network())
    losses = fit(plain, 4)["loss"]
    same = [np.array_equal(own, ends[0][1][name]) for name, own in plain.model.state_dict().items()]
    assert losses != ends[0][0] or not all(same)


@pytest.mark.parametrize("per", ["epoch", "iteration"])
def test_another_optimizer_is_driven_and_logged(per):
    model = network()
    other = dl.SGD(model.parameters(), lr=0.02)
    schedule = dl.ExponentialLR(0.5, per=per)
    trainer = trainer_of(model, schedule=schedule)
    change = At(2, lambda trainer: setattr(trainer, "optimizer", other))
    history = fit(trainer, 4, batch_size=60, callbacks=[change])
    np.testing.assert_allclose(history["lr"], [0.3, 0.15, 0.02 / 4, 0.02 / 8])
    assert other.lr == history["lr"][-1]
    assert other.steps == 2
    assert trainer.optimizer is other


def test_another_optimizer_amid_an_epoch():
    class Change(dl.Callback):
        def on_batch_end(self, batch, logs):  # noqa: ARG002
            self.trainer.optimizer = "sgd"

    trainer = trainer_of(network())
    with pytest.raises(RuntimeError, match="amid an epoch"):
        fit(trainer, 1, callbacks=[Change()])
    trainer.optimizer = "sgd"


def test_an_optimizer_by_its_name():
    trainer = trainer_of(network())
    trainer.optimizer = "adamw"
    assert isinstance(trainer.optimizer, dl.AdamW)
    fit(trainer, 1)
    assert trainer.optimizer.steps == 6


@pytest.mark.parametrize(
    ("name", "value"),
    [("loss", "mse"), ("metrics", []), ("schedule", None), ("model", network()), ("callbacks", [])],
)
def test_what_a_fit_under_way_cannot_follow(name, value):
    trainer = trainer_of(network())
    change = At(1, lambda trainer: setattr(trainer, name, value))
    with pytest.raises(RuntimeError, match=f"{name} cannot be changed while a fit is under way"):
        fit(trainer, 3, callbacks=[change])
    fit(trainer, 1)


def test_a_callback_that_is_added_to_a_fit_under_way():
    trainer = trainer_of(network())
    change = At(1, lambda trainer: trainer.callbacks.append(dl.EarlyStopping("loss")))
    with pytest.raises(RuntimeError, match="callbacks cannot be changed"):
        fit(trainer, 3, callbacks=[change])


def test_settings_between_two_fits():
    trainer = trainer_of(network())
    trainer.metrics = ["accuracy"]
    trainer.schedule = dl.ExponentialLR(0.5)
    assert set(fit(trainer, 1)) == {"loss", "accuracy", "lr"}
    trainer.schedule = None
    trainer.callbacks = [At(0, set_lr)]
    fit(trainer, 1)
    assert trainer.optimizer.lr == 1e-3
    model = dl.Sequential(dl.Linear(4, 3), dtype=F64, seed=0)
    trainer.model = model
    with pytest.raises(ValueError, match="no parameter of this model"):
        fit(trainer, 1)
    trainer.optimizer = "sgd"
    fit(trainer, 1)
    x, y = rows()
    targets = np.eye(3)[y]
    trainer.metrics = None
    trainer.loss = "mse"
    expected = dl.mse_loss(model(x), targets)
    assert trainer.evaluate(x, targets)["loss"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("accumulate", 0, ValueError, "accumulate must be a positive integer, not 0"),
        ("clip_grad_norm", 0.0, ValueError, "clip_grad_norm must be positive, not 0.0"),
        ("clip_grad_value", -1.0, ValueError, "clip_grad_value must be positive"),
        ("optimizer", "lion", ValueError, "optimizer must be one of"),
        ("optimizer", dl.SGD([np.zeros(3)]), ValueError, "no parameter of this model"),
        ("schedule", 0.1, TypeError, "schedule must be a Schedule"),
        ("callbacks", dl.EarlyStopping(), TypeError, "callbacks must be a list"),
        ("loss", "hinge", ValueError, "loss must be one of"),
        ("metrics", ["auc?"], ValueError, "auc"),
        ("model", None, TypeError, "model must be a Sequential"),
        ("lr", 0.1, AttributeError, "did you mean optimizer.lr"),
        ("clip_norm", 1.0, AttributeError, "did you mean clip_grad_norm"),
        ("callback", [], AttributeError, "did you mean callbacks"),
        ("seed", 3, AttributeError, "did you mean Trainer"),
    ],
)
def test_settings_are_checked_when_they_are_set(name, value, error, message):
    trainer = trainer_of(network())
    before = vars(trainer).copy()
    with pytest.raises(error, match=message):
        setattr(trainer, name, value)
    assert vars(trainer) == before


def test_attributes_of_the_users_own():
    trainer = trainer_of(network())
    trainer.run_of_my_tracker = 3
    assert trainer.run_of_my_tracker == 3


def test_both_ways_of_clipping():
    trainer = trainer_of(network(), clip_grad_norm=1.0)
    with pytest.raises(ValueError, match="not both"):
        trainer.clip_grad_value = 1.0
    trainer.clip_grad_norm = None
    trainer.clip_grad_value = 1.0


def test_an_estimator_follows_its_model():
    pytest.importorskip("sklearn")
    from dlcore.sklearn import MLPClassifier

    x, y = rows()
    seen = []

    class Change(At):
        def on_epoch_end(self, epoch, logs):  # noqa: ARG002
            seen.append(self.trainer.model.state_dict()["0.weight"])

    def change(run):
        run.model.freeze("0")

    stop = dl.EarlyStopping("loss", mode="max", patience=3, restore_best=False)
    MLPClassifier((5,), callbacks=[Change(2, change), stop], random_state=0).fit(x, y)
    assert not np.array_equal(seen[0], seen[1])
    np.testing.assert_array_equal(seen[1], seen[3])


# ---- representations


def test_a_trainer_could_be_typed_in():
    model = network()
    parts = [{"params": model.parameters("0")}, {"params": model.parameters("1", "4"), "lr": 0.1}]
    trainer = dl.Trainer(
        model,
        loss=dl.CrossEntropyLoss(label_smoothing=0.1),
        optimizer=dl.Adam(parts),
        callbacks=[dl.EarlyStopping("val_accuracy", patience=3), dl.ExponentialMovingAverage()],
        metrics=["accuracy"],
        accumulate=2,
        clip_grad_norm=1.0,
        schedule=dl.CosineAnnealingLR(5),
        seed=3,
    )
    names = {name: getattr(dl, name) for name in dl.__all__} | {"model": model}
    again = eval(repr(trainer), names)
    assert repr(again) == repr(trainer)
    assert again.optimizer.lrs == [1e-3, 0.1]
    assert repr(dl.Trainer(model, loss="mse", optimizer="sgd")).startswith(
        "Trainer(model, loss=MSELoss(), optimizer=SGD(model.parameters(), lr=0.001, "
    )


@pytest.mark.parametrize(
    "text",
    [
        "MSELoss()",
        "CrossEntropyLoss(weight=[1.0, 2.5], ignore_index=3)",
        "HuberLoss(delta=0.5)",
        "QuantileLoss(quantile=[0.1, 0.9])",
        "BCEWithLogitsLoss(pos_weight=[2.0])",
        "FocalLoss(gamma=1.0, loss='bce_with_logits')",
        (
            "MultiTargetLoss(losses={'a': MSELoss(), 'b': HuberLoss()}, widths=[1, 2], "
            "weights=[1.0, 0.5], metrics={'a': ['r2']})"
        ),
        "EarlyStopping(monitor='loss', patience=2, restore_best=False)",
        "EarlyStopping(monitor='reward', mode='max')",
        "ReduceLROnPlateau(monitor='loss', factor=0.5)",
        "ExponentialMovingAverage(decay=0.9)",
        "StochasticWeightAveraging(start=3, every=2)",
        "Dropout(p=0.25)",
    ],
)
def test_objects_show_the_call_that_makes_them(text):
    assert repr(eval(text, vars(dl))) == text


def test_objects_of_the_users_own_show_what_can_be_known():
    class Kept(dl.Loss):
        def __init__(self, alpha=1.0):
            self.alpha = alpha

    class Lost(dl.Callback):
        def __init__(self, path):
            self.file = path

    assert repr(Kept(2.0)) == "Kept(alpha=2.0)"
    assert "Lost object at" in repr(Lost("x"))
