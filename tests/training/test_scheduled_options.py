"""Options by group and by schedule: groups of parameters, weight decay and dropout, rates of groups."""

import copy

import numpy as np
import pytest

import dlcore as dl


def network(p=0.4, seed=0):
    return dl.Sequential(
        dl.Scale(5),
        dl.Linear(5, 16, parametrization="ntk"),
        dl.ParametricActivation(16, "selu"),
        dl.Dropout(p),
        dl.Linear(16, 2),
        seed=seed,
    )


def rows(n=96):
    x = np.random.default_rng(3).normal(size=(n, 5)).astype(np.float32)
    return x, (x[:, 0] > 0).astype(int)


class Watch(dl.Callback):
    """Note what a fit has in each epoch."""

    def __init__(self):
        self.seen = []

    def on_epoch_end(self, *_):
        trainer = self.trainer
        dropout = [layer.p for layer in trainer.model.layers if isinstance(layer, dl.Dropout)]
        groups = trainer.optimizer.param_groups
        self.seen.append((dropout, [g["weight_decay"] for g in groups], [g["lr"] for g in groups]))


def two_groups(model, decays=(0.5, 0.0), lrs=(0.01, 0.02)):
    params = [model.parameters("0", "1", "2"), model.parameters("4")]
    groups = [
        {"params": own, "weight_decay": decay, "lr": lr}
        for own, decay, lr in zip(params, decays, lrs, strict=True)
    ]
    return dl.AdamW(groups)


# ---- by schedule


def test_decay_and_dropout_follow_their_schedules_and_are_given_back():
    x, y = rows()
    model = network()
    watch = Watch()
    trainer = dl.Trainer(
        model,
        loss="cross_entropy",
        optimizer=two_groups(model),
        callbacks=[
            dl.WeightDecaySchedule(dl.LinearLR(1.0, 0.0, total_iters=4)),
            dl.DropoutSchedule(dl.FlatCosineLR(4)),
            watch,
        ],
        seed=0,
    )
    trainer.fit(x, y, epochs=3, verbose=0)
    assert model[3].p == 0.4
    assert [g["weight_decay"] for g in trainer.optimizer.param_groups] == [0.5, 0.0]
    trainer.fit(x, y, epochs=2, verbose=0)  # goes on
    decays = [decay for _, decay, _ in watch.seen]
    np.testing.assert_allclose(decays, [[0.5, 0], [0.375, 0], [0.25, 0], [0.125, 0], [0, 0]])
    np.testing.assert_allclose([p for p, _, _ in watch.seen], [[0.4], [0.4], [0.4], [0.2], [0]])


def test_a_schedule_trains_as_epochs_with_these_options_do():
    x, y = rows()

    def trainer(**options):
        model = network()
        return dl.Trainer(
            model, loss="cross_entropy", optimizer=two_groups(model), seed=0, **options
        )

    line = dl.LinearLR(1.0, 0.0, total_iters=3)
    scheduled = trainer(callbacks=[dl.WeightDecaySchedule(line), dl.DropoutSchedule(line)])
    scheduled.fit(x, y, epochs=4, verbose=0)
    by_hand = trainer()
    for epoch in range(4):
        by_hand.model[3].p = line(epoch, 0.4)
        by_hand.optimizer.param_groups[0]["weight_decay"] = line(epoch, 0.5)
        by_hand.fit(x, y, epochs=1, verbose=0)
    np.testing.assert_array_equal(scheduled.model.flat, by_hand.model.flat)


@pytest.mark.parametrize("at", [1, 2, 4])
def test_a_fit_that_goes_on_has_the_bits_of_a_whole_one(at, tmp_path):
    x, y = rows()

    def trainer():
        model = network()
        line = dl.FlatCosineLR(6)
        return dl.Trainer(
            model,
            loss="cross_entropy",
            optimizer=two_groups(model),
            callbacks=[dl.WeightDecaySchedule(line), dl.DropoutSchedule(line)],
            schedule=dl.CosLogLR(6 * 3, per="iteration"),
            seed=0,
        )

    whole = trainer()
    whole.fit(x, y, epochs=6, verbose=0)
    half = trainer()
    half.fit(x, y, epochs=at, verbose=0)
    half.save(tmp_path / "half")
    other = trainer()
    other.fit(x, y, epochs=6, resume=tmp_path / "half", verbose=0)
    np.testing.assert_array_equal(other.model.flat, whole.model.flat)
    # A fit that was cut off, while the options are those of an epoch.
    saver = dl.ModelCheckpoint(tmp_path / "{epoch}")
    cut = trainer()
    cut.fit(x, y, epochs=6, callbacks=[saver], verbose=0)
    np.testing.assert_array_equal(cut.model.flat, whole.model.flat)
    again = trainer()
    path = sorted(tmp_path.glob("*[0-9]"))[at - 1]
    again.fit(x, y, epochs=6, resume=path, verbose=0)
    np.testing.assert_array_equal(again.model.flat, whole.model.flat)
    assert again.model[3].p == 0.4


def test_schedules_of_options_are_checked():
    x, y = rows()
    with pytest.raises(ValueError, match="DropoutSchedule: schedule must count epochs"):
        dl.DropoutSchedule(dl.FlatCosineLR(9, per="iteration"))
    with pytest.raises(TypeError, match="WeightDecaySchedule: schedule must be"):
        dl.WeightDecaySchedule(0.5)
    model = dl.Sequential(dl.Linear(5, 2), seed=0)
    line = dl.FlatCosineLR(3)
    trainer = dl.Trainer(model, loss="cross_entropy", callbacks=[dl.DropoutSchedule(line)])
    with pytest.raises(ValueError, match="the model has no Dropout layer"):
        trainer.fit(x, y, epochs=1, verbose=0)

    class Own:
        lr = 0.1

        def step(self, grads):
            pass

    trainer = dl.Trainer(
        model, loss="cross_entropy", optimizer=Own(), callbacks=[dl.WeightDecaySchedule(line)]
    )
    with pytest.raises(TypeError, match="needs an optimizer with a weight_decay, not Own"):
        trainer.fit(x, y, epochs=1, verbose=0)
    much = dl.Trainer(
        network(), loss="cross_entropy", callbacks=[dl.DropoutSchedule(dl.LambdaLR(lambda _: 3))]
    )
    with pytest.raises(ValueError, match=r"Dropout: p must be in \[0, 1\]"):
        much.fit(x, y, epochs=1, verbose=0)
    assert much.model[3].p == 0.4
    assert repr(dl.DropoutSchedule(line)) == f"DropoutSchedule(schedule={line!r})"


# ---- a schedule for each group


@pytest.mark.parametrize("per", ["epoch", "iteration"])
def test_each_group_has_its_schedule(per):
    x, y = rows()
    model = network()
    schedules = [dl.ExponentialLR(0.5, per=per), dl.ConstantLR(0.5, 2, per=per)]
    watch = Watch()
    trainer = dl.Trainer(
        model,
        loss="cross_entropy",
        optimizer=two_groups(model),
        schedule=schedules,
        callbacks=[watch],
        seed=0,
    )
    trainer.fit(x, y, epochs=4, batch_size=len(x), verbose=0)
    rates = [lrs for _, _, lrs in watch.seen]
    np.testing.assert_allclose(
        rates, [[0.01, 0.01], [0.005, 0.01], [0.0025, 0.02], [0.00125, 0.02]]
    )
    assert trainer.schedule == tuple(schedules)
    np.testing.assert_allclose(trainer.history["lr_1"], [0.01, 0.01, 0.02, 0.02])


def test_schedules_of_groups_in_files_and_errors(tmp_path):
    x, y = rows()
    model = network()
    schedules = (dl.StepLR(2), dl.ExponentialLR(0.9))
    options = {"loss": "cross_entropy", "seed": 0}
    trainer = dl.Trainer(model, optimizer=two_groups(model), schedule=schedules, **options)
    trainer.fit(x, y, epochs=2, verbose=0)
    trainer.save(tmp_path / "state")
    loaded = dl.Trainer.load(tmp_path / "state")
    assert loaded.schedule == schedules
    trainer.fit(x, y, epochs=2, verbose=0)
    loaded.fit(x, y, epochs=2, verbose=0)
    np.testing.assert_array_equal(loaded.model.flat, trainer.model.flat)
    with pytest.raises(TypeError, match="must hold a Schedule for each group"):
        dl.Trainer(model, schedule=[dl.StepLR(2), 0.5], **options)
    with pytest.raises(ValueError, match="must count the same"):
        dl.Trainer(model, schedule=[dl.StepLR(2), dl.StepLR(2, per="iteration")], **options)
    with pytest.raises(ValueError, match="must count the same"):
        dl.Trainer(model, schedule=[], **options)
    three = dl.Trainer(model, optimizer=two_groups(model), schedule=[dl.StepLR(2)] * 3, **options)
    with pytest.raises(ValueError, match="schedule has 3 schedules, but the optimizer 2 groups"):
        three.fit(x, y, epochs=1, verbose=0)


# ---- groups of parameters


def names_of(model, groups):
    named = model.named_parameters()
    return [
        [name for p in group["params"] for name, own in named.items() if own is p or _same(own, p)]
        for group in groups
    ]


def _same(a, b):
    return a.ctypes.data == b.ctypes.data and a.shape == b.shape


def test_groups_by_classes_and_names():
    model = network()
    groups = dl.parameter_groups(
        model,
        0.04,
        0.02,
        lr_factors={"Scale": 6, "bias": 0.1, "ParametricActivation": 0.1},
        weight_decay_factors={"Scale": 6, "bias": 0, "ParametricActivation": 0.1},
    )
    assert names_of(model, groups) == [
        ["0.weight"],
        ["1.weight", "4.weight"],
        ["1.bias", "4.bias"],
        ["2.weight"],
    ]
    np.testing.assert_allclose([g["lr"] for g in groups], [0.24, 0.04, 0.004, 0.004])
    np.testing.assert_allclose([g["weight_decay"] for g in groups], [0.12, 0.02, 0, 0.002])
    x, y = rows()
    trainer = dl.Trainer(model, loss="cross_entropy", optimizer=dl.AdamW(groups), seed=0)
    trainer.fit(x, y, epochs=2, verbose=0)


def test_the_closest_key_counts():
    class Head(dl.Linear):
        pass

    model = dl.Sequential(
        dl.Linear(3, 4), dl.Residual(dl.Linear(4, 4)), dl.LayerNorm(4), Head(4, 2), seed=0
    )

    def rates(**factors):
        groups = dl.parameter_groups(model, 1.0, lr_factors=factors)
        assert all(group.keys() == {"params", "lr"} for group in groups)
        own = zip(names_of(model, groups), groups, strict=True)
        return {name: group["lr"] for names, group in own for name in names}

    assert set(rates().values()) == {1.0}
    assert rates(bias=2)["2.bias"] == 2
    given = {"bias": 2, "Linear": 3, "Linear.bias": 4, "1": 5, "0.weight": 6, "Head": 7}
    assert rates(**given) == {
        "0.weight": 6,
        "0.bias": 4,
        "1.0.weight": 5,
        "1.0.bias": 5,
        "2.weight": 1,
        "2.bias": 2,
        "3.weight": 7,
        "3.bias": 4,
    }


def test_wrong_groups():
    model = network()
    with pytest.raises(ValueError, match=r"lr_factors has 'Norm', but .* there are Linear, Param"):
        dl.parameter_groups(model, 0.1, lr_factors={"Norm": 2})
    with pytest.raises(ValueError, match=r"lr_factors\['bias'\] must be a number in"):
        dl.parameter_groups(model, 0.1, lr_factors={"bias": -1})
    with pytest.raises(ValueError, match="weight_decay_factors need a weight_decay"):
        dl.parameter_groups(model, 0.1, weight_decay_factors={"bias": 0})
    with pytest.raises(ValueError, match="lr must be a number in"):
        dl.parameter_groups(model, np.nan)
    with pytest.raises(TypeError, match="parameter_groups: model must be a Sequential"):
        dl.parameter_groups([], 0.1)


def test_copies_of_callbacks_keep_their_epochs():
    schedule = dl.DropoutSchedule(dl.FlatCosineLR(4))
    x, y = rows()
    dl.Trainer(network(), loss="cross_entropy", callbacks=[schedule]).fit(x, y, epochs=3, verbose=0)
    assert copy.deepcopy(schedule).epochs == schedule.epochs == 3
