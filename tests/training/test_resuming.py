"""Fits that are cut off and resumed: the bits of parameters and history of fits that were not."""

import contextlib
import os
import pickle
import re
from datetime import datetime

import numpy as np
import pytest

import dlcore as dl
from support import resumable_fits
from support.resumable_fits import EPOCHS, FITS, as_path, fit, network, rows


class Cut(Exception):
    """A fit is cut off."""


class CutOff(dl.Callback):
    """Ends a fit after some batches or epochs, as if the machine had gone."""

    def __init__(self, *, epochs=None, batches=None):
        self.epochs, self.batches, self.seen = epochs, batches, 0
        if batches is not None:
            self.on_batch_end = self.count

    def count(self, batch, logs):  # noqa: ARG002
        self.seen += 1
        if self.seen == self.batches:
            raise Cut

    def on_epoch_begin(self, epoch):
        if epoch == self.epochs:
            raise Cut


@pytest.fixture(scope="module")
def undisturbed():
    """Return what a fit comes to that nobody disturbs or saves."""
    known = {}

    def of(name):
        if name not in known:
            known[name] = fit(name)
        return known[name]

    return of


def same(got, wanted):
    for part, value in wanted.items():
        assert got[part] == value, part


@pytest.mark.parametrize("name", FITS)
def test_a_fit_cut_off_between_epochs_goes_on_to_the_same_bits(name, undisturbed, tmp_path):
    path = as_path(tmp_path)
    wanted = undisturbed(name)
    last = len(wanted["history"]["loss"])
    for epochs in (2, last - 1):
        with pytest.raises(Cut):
            fit(name, callbacks=[dl.ModelCheckpoint(path), CutOff(epochs=epochs)], resume=path)
    checkpoint = dl.ModelCheckpoint(path)
    same(fit(name, callbacks=[checkpoint], resume=path), wanted)
    # A fit that is over is not trained on.
    same(fit(name, callbacks=[dl.ModelCheckpoint(path)], resume=True), wanted)


@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize(("every", "batches"), [(5, 18), (1, 23), (7, 31)])
def test_a_fit_cut_off_within_an_epoch_goes_on_to_the_same_bits(
    name, every, batches, undisturbed, tmp_path
):
    path = as_path(tmp_path)
    wanted = undisturbed(name)
    runs = 0
    while runs < 10:
        runs += 1
        checkpoint = dl.ModelCheckpoint(path, every=every, unit="batches")
        try:
            got = fit(name, callbacks=[checkpoint, CutOff(batches=batches)], resume=path)
        except Cut:
            continue
        break
    assert (runs > 1) == (sum(wanted["batches"]) >= batches)
    same(got, wanted)


@pytest.mark.parametrize("name", ["adam", "accumulated", "streamed"])
def test_checkpoints_by_the_clock_change_no_bit(name, undisturbed, tmp_path, monkeypatch):
    path = as_path(tmp_path)
    saved = []
    state_of_file = dl.Trainer._state_of_file

    def state(trainer):
        saved.append(trainer)
        return state_of_file(trainer)

    monkeypatch.setattr(dl.Trainer, "_state_of_file", state)
    checkpoint = dl.ModelCheckpoint(path, every=1e-9, unit="minutes")
    same(fit(name, callbacks=[checkpoint]), undisturbed(name))
    assert len(saved) >= EPOCHS


def test_epochs_count_from_the_beginning_of_the_first_fit(tmp_path):
    path = as_path(tmp_path)
    fit("sgd", callbacks=[dl.ModelCheckpoint(path)], epochs=4)
    trainer, _ = FITS["sgd"]()
    begins = []

    class Watch(dl.Callback):
        def on_fit_begin(self):
            begins.append(self.trainer.first_epoch)

        def on_epoch_begin(self, epoch):
            begins.append(epoch)

    x, y, _ = rows()
    given = {"epochs": EPOCHS, "batch_size": 8, "verbose": 0, "callbacks": [Watch()]}
    history = trainer.fit(x, y, resume=path, **given)
    assert begins == [4, 4, 5]
    assert history.epoch == list(range(EPOCHS))
    assert trainer.first_epoch == 4
    same(resumable_fits.outcome(trainer, history), fit("sgd"))
    assert trainer.fit(x, y, epochs=1, batch_size=8, verbose=0).epoch == [0]  # another fit
    assert trainer.first_epoch == 0


def test_a_limit_of_updates_counts_from_the_beginning_too(tmp_path):
    path = as_path(tmp_path)
    x, y, _ = rows()
    ends = []
    for limits in ([30], [10, 24, 30], [30, 30]):
        for limit in limits:
            trainer, _ = FITS["adam"]()
            history = trainer.fit(
                x,
                y,
                epochs=EPOCHS,
                batch_size=8,
                max_iterations=limit,
                callbacks=[dl.ModelCheckpoint(path)],
                resume=path if limit != limits[0] else None,
                verbose=0,
            )
        ends.append(history.iteration[-1])
    assert ends == [30, 30, 30]


# ---- what is not the same


def differing(path, change=None, **options):
    """Resume with something that is not as it was; return the message."""
    trainer, _ = FITS["sgd"]()
    trainer = trainer if change is None else change(trainer)
    x, y, _ = rows()
    data = options.pop("data", (x, y))
    given = {"epochs": EPOCHS, "batch_size": 8, "verbose": 0, "resume": path} | options
    before = pickle.dumps((trainer.model.state_dict(), trainer.optimizer.state_dict()))
    generators = trainer._shuffle_rng.bit_generator.state
    with pytest.raises(ValueError, match=re.escape(str(path))) as error:
        trainer.fit(*data, **given)
    after = pickle.dumps((trainer.model.state_dict(), trainer.optimizer.state_dict()))
    assert before == after
    assert generators == trainer._shuffle_rng.bit_generator.state
    return str(error.value)


def of(model=None, optimizer=None, **options):
    def make(trainer):
        own = network() if model is None else model
        sgd = dl.SGD(own.parameters(), lr=0.1, momentum=0.9) if optimizer is None else optimizer
        if callable(sgd) and not hasattr(sgd, "step"):
            sgd = sgd(own)
        given = {"seed": 3, "schedule": dl.CosineAnnealingLR(EPOCHS), "loss": "cross_entropy"}
        return dl.Trainer(own, optimizer=sgd, **(given | options))

    return make


X, Y, _ = rows()


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (of(dl.Sequential(dl.Linear(6, 3), seed=1)), {}, "its model has"),
        (of(network(dl.Dropout(0.1))), {}, "its model has .*, this one "),
        (of(optimizer="adam"), {}, r"its optimizer is SGD\(.*\), this one's Adam\("),
        (of(optimizer=lambda m: dl.SGD(m.parameters(), lr=0.2, momentum=0.9)), {}, "lr=0.2"),
        (of(seed=4), {}, "its seed is 3, this one's 4"),
        (of(loss="mse"), {"data": (X, np.eye(3, dtype=np.float32)[Y])}, "its loss is"),
        (of(schedule=None), {}, "its schedule is CosineAnnealingLR"),
        (of(accumulate=2), {}, "its accumulate is 1, this one's 2"),
        (of(clip_grad_norm=1.0), {}, "its clip_grad_norm is None, this one's 1.0"),
        (of(callbacks=[dl.EarlyStopping("loss")]), {}, "no state of EarlyStopping"),
        (None, {"batch_size": 9}, "its batch_size is 8, this one's 9"),
        (None, {"data": (X[:-1], Y[:-1])}, "its rows is 90, this one's 89"),
        (None, {"data": (X, Y[::-1])}, "x and y hold other values"),
        (None, {"data": (X[::-1], Y)}, "x and y hold other values"),
        (None, {"shuffle": False}, "its shuffle is True, this one's False"),
        (None, {"validation_split": 0.1}, "its validation_split is 0.0, this one's 0.1"),
        (None, {"class_weight": "balanced"}, "class_weight"),
        (None, {"transform": lambda x, rng: x}, "transform"),  # noqa: ARG005
    ],
)
def test_another_fit_is_refused_by_what_differs(change, options, message, tmp_path):
    path = as_path(tmp_path)
    fit("sgd", callbacks=[dl.ModelCheckpoint(path)], epochs=2)
    assert re.search(message, differing(path, change, **options))


def test_a_state_without_its_callback_is_refused(tmp_path):
    path = as_path(tmp_path)
    stopping = dl.EarlyStopping("loss")
    fit("sgd", callbacks=[dl.ModelCheckpoint(path), stopping], epochs=2)
    assert "has the state of a EarlyStopping" in differing(path)


def test_files_that_are_no_states_are_refused(tmp_path):
    x, y, _ = rows()
    trainer, _ = FITS["sgd"]()
    path = tmp_path / "other.safetensors"
    with pytest.raises(FileNotFoundError, match="other"):
        trainer.fit(x, y, epochs=1, resume=path, verbose=0)
    path.write_bytes(b"something else")
    with pytest.raises(ValueError, match="other"):
        trainer.fit(x, y, epochs=1, resume=path, verbose=0)
    with pytest.raises(ValueError, match="ModelCheckpoint"):
        trainer.fit(x, y, epochs=1, resume=True, verbose=0)
    trainer.save(path)
    with pytest.raises(ValueError, match="load_state_dict"):
        trainer.fit(x, y, epochs=1, resume=path, verbose=0)
    trainer.load_state_dict(path)
    whole = as_path(tmp_path)
    fit("sgd", callbacks=[dl.ModelCheckpoint(whole)], epochs=2)
    data = whole.read_bytes()
    whole.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="run"):
        trainer.fit(x, y, epochs=1, resume=whole, verbose=0)


def test_a_state_has_no_place_amid_an_epoch(tmp_path):
    class Saves(dl.Callback):
        def on_batch_end(self, batch, logs):  # noqa: ARG002
            self.trainer.save(tmp_path / "state")

    with pytest.raises(RuntimeError, match="amid an epoch"):
        fit("sgd", callbacks=[Saves()])
    assert not list(tmp_path.iterdir())


# ---- states without files


# Whose batches do not go on by themselves.
AGAIN = [name for name in FITS if name != "endless"]


@pytest.mark.parametrize("name", AGAIN)
def test_a_trainer_with_the_state_of_another_goes_on_as_that_one(name):
    (first, options), (second, _) = FITS[name](), FITS[name]()
    stream = options.pop("stream", None)
    data = rows()[:2] if stream is None else (stream,)
    first.fit(*data, epochs=2, verbose=0, **options)
    state = pickle.loads(pickle.dumps(first.state_dict()))
    second.load_state_dict(state)
    assert second.history == first.history
    assert vars(second.history) == vars(first.history)
    ends = [
        resumable_fits.outcome(t, t.fit(*data, epochs=3, verbose=0, **options))
        for t in (first, second)
    ]
    same(ends[1], ends[0])


def test_a_state_is_a_copy():
    trainer, _ = FITS["moving_average"]()
    x, y, _ = rows()
    trainer.fit(x, y, epochs=1, validation_split=0.3, verbose=0)
    state = trainer.state_dict()
    before = pickle.dumps(state)
    trainer.fit(x, y, epochs=1, validation_split=0.3, verbose=0)
    assert pickle.dumps(state) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("model"), "the state of a training has"),
        (lambda state: state["model"].pop("0.weight"), "0.weight is missing"),
        (lambda state: state["optimizer"]["param_groups"].clear(), "groups of"),
        (lambda state: state["callbacks"].clear(), "no state of"),
        (lambda state: state["generators"]["shuffle"].update(bit_generator="MT19937"), "PCG64"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(change, message):
    make = FITS["moving_average"]
    (first, _), (second, _) = make(), make()
    x, y, _ = rows()
    first.fit(x, y, epochs=1, validation_split=0.3, verbose=0)
    state = first.state_dict()
    change(state)
    before = pickle.dumps(second.state_dict())
    with pytest.raises(ValueError, match=message):
        second.load_state_dict(state)
    assert pickle.dumps(second.state_dict()) == before


def test_an_optimizer_without_a_state_is_named():
    class Plain:
        lr = 0.1

        def step(self, grads):
            pass

    trainer = dl.Trainer(network(), loss="cross_entropy", optimizer=Plain())
    with pytest.raises(TypeError, match="a Plain, needs state_dict"):
        trainer.state_dict()


# ---- files


def written(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_of_each_epoch_and_the_newest_kept(tmp_path):
    path = tmp_path / "deep" / "run-{epoch:02d}-{loss:.3f}.safetensors"
    fit("sgd", callbacks=[dl.ModelCheckpoint(path)])
    names = written(tmp_path / "deep")
    assert [name[:6] for name in names] == [f"run-{epoch:02d}" for epoch in range(1, EPOCHS + 1)]
    checkpoint = dl.ModelCheckpoint(tmp_path / "few" / "{epoch}", every=2, keep=2)
    fit("sgd", callbacks=[checkpoint], epochs=5)
    assert written(tmp_path / "few") == ["4", "5"]
    assert checkpoint.last_path.name == "5"
    assert dl.ModelCheckpoint(tmp_path / "few" / "{epoch}").last_path.name == "5"


def script(values):
    """Return a fit that logs these values, and the checkpoints among its callbacks."""

    def run(*callbacks, **options):
        steps = iter(values)

        def error(y_true, outputs):
            return next(steps)

        trainer = dl.Trainer(network(), loss="cross_entropy", metrics=[error], seed=0)
        x, y, _ = rows()
        trainer.fit(x, y, epochs=len(values), callbacks=list(callbacks), verbose=0, **options)
        return trainer

    return run


def test_the_best_epoch_alone(tmp_path):
    best = dl.ModelCheckpoint(tmp_path / "{epoch}-{error}", monitor="error", save_best_only=True)
    weights = []

    class Weights(dl.Callback):
        def on_epoch_end(self, epoch, logs):  # noqa: ARG002
            weights.append(self.trainer.model.flat.copy())

    script([3.0, float("nan"), 2.0, 2.0, 4.0])(best, Weights())
    assert written(tmp_path) == ["1-3.0", "3-2.0"]
    assert (best.best, best.best_epoch) == (2.0, 2)
    assert best.best_path == str(tmp_path / "3-2.0")
    trainer = dl.Trainer(network(), loss="cross_entropy", metrics=[], seed=0)
    trainer.load_state_dict(best.best_path)
    assert np.array_equal(trainer.model.flat, weights[2])


def test_the_best_is_kept_beside_the_newest(tmp_path):
    checkpoint = dl.ModelCheckpoint(tmp_path / "{epoch}", monitor="error", keep=2)
    script([3.0, 1.0, 2.0, 2.0, 4.0])(checkpoint)
    assert written(tmp_path) == ["2", "4", "5"]


def test_checkpoints_go_on_with_what_they_have_written(tmp_path):
    path = tmp_path / "{epoch}"
    for cut in (2, 4, 9):
        checkpoint = dl.ModelCheckpoint(path, monitor="loss", keep=1)
        with contextlib.suppress(Cut):
            fit("sgd", callbacks=[checkpoint, CutOff(epochs=cut)], resume=True)
        assert len(written(tmp_path)) <= 2
    assert checkpoint.last_path.name == str(EPOCHS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"save_best_only": True}, "save_best_only needs monitor"),
        ({"mode": "min"}, "mode needs monitor"),
        ({"every": 0}, "every must be a positive integer"),
        ({"every": 1.5}, "every must be a positive integer"),
        ({"every": -1.0, "unit": "minutes"}, "every must be positive"),
        ({"unit": "steps"}, "unit must be 'epochs', 'batches' or 'minutes'"),
        ({"keep": 2}, "keep needs a path with a field"),
        ({"path": "{epoch}", "keep": 0}, "keep must be a positive integer"),
        ({"path": "{epoch.x}"}, "no name of a log"),
        ({"path": "{0}"}, "no name of a log"),
        ({"path": "{epoch"}, "fields that are none"),
        ({"path": "{loss}", "unit": "batches"}, "no logs"),
        ({"monitor": "loss", "save_best_only": True, "every": 2}, "leave out every"),
        ({"monitor": "thing", "mode": "auto"}, "cannot tell"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        dl.ModelCheckpoint(**({"path": "run"} | arguments))


def test_what_a_fit_does_not_log_is_named_before_it_begins(tmp_path):
    for checkpoint in (
        dl.ModelCheckpoint(tmp_path / "{val_loss}"),
        dl.ModelCheckpoint(tmp_path / "a", monitor="val_loss"),
    ):
        with pytest.raises(ValueError, match=r"val_loss.*logs only loss"):
            fit("stochastic_average", callbacks=[checkpoint])
    checkpoint = dl.ModelCheckpoint(tmp_path / "{epoch}-{val_loss}")
    with pytest.raises(ValueError, match="epoch 1 logs only"):
        fit("endless", callbacks=[checkpoint])
    assert not written(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_ends_the_fit_before_it_begins(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="no file can be made"):
        fit("sgd", callbacks=[dl.ModelCheckpoint(tmp_path / "run")])


def test_a_file_that_cannot_be_written_ends_the_fit(tmp_path):
    class Blocks(dl.Callback):
        def on_epoch_end(self, epoch, logs):  # noqa: ARG002
            if epoch == 1:
                path.unlink()
                path.mkdir()

    path = as_path(tmp_path)
    with pytest.raises(OSError, match=re.escape(str(path))):
        fit("sgd", callbacks=[Blocks(), dl.ModelCheckpoint(path)])
    assert not list(path.iterdir())


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(IsADirectoryError, match="is a folder"):
        fit("sgd", callbacks=[dl.ModelCheckpoint(tmp_path)])


def test_checkpoints_show_what_they_were_made_with():
    checkpoint = dl.ModelCheckpoint("run-{epoch}", monitor="loss", keep=3)
    assert repr(checkpoint) == "ModelCheckpoint(path='run-{epoch}', monitor='loss', keep=3)"
    assert repr(dl.ModelCheckpoint("run")) == "ModelCheckpoint(path='run')"


# ---- batches that callbacks hear of


@pytest.mark.parametrize("every", [1, 2, 5])
def test_a_callback_hears_of_every_so_many_batches(every):
    losses, heard = [], []

    class All(dl.Callback):
        def on_batch_end(self, batch, logs):  # noqa: ARG002
            losses.append(logs["loss"])

    class Some(dl.Callback):
        every_batches = every

        def on_batch_end(self, batch, logs):
            heard.append((batch, logs["loss"], self.trainer.model.flat.copy()))

    fit("sgd", callbacks=[All()], epochs=1)
    wanted = fit("sgd", callbacks=[Some()], epochs=1)
    assert [batch for batch, *_ in heard] == list(range(every - 1, 12, every))
    for batch, loss, _ in heard:
        assert loss == pytest.approx(np.mean(losses[batch + 1 - every : batch + 1]), rel=1e-12)
    same(fit("sgd", epochs=1), wanted)
    alone = heard[:]
    heard.clear()
    fit("sgd", callbacks=[Some(), All()], epochs=1)
    for one, other in zip(alone, heard, strict=True):
        assert one[:2] == other[:2]
        assert np.array_equal(one[2], other[2])


def test_every_batches_must_be_an_integer():
    class Some(dl.Callback):
        every_batches = 0.5

        def on_batch_end(self, batch, logs):
            pass

    with pytest.raises(ValueError, match=r"Some.every_batches must be a positive integer"):
        fit("sgd", callbacks=[Some()])


def test_the_newest_file_is_that_of_the_newest_time(tmp_path):
    for number in (2, 10, 1):
        (tmp_path / f"{number}").write_bytes(b"")
        os.utime(tmp_path / f"{number}", (datetime(2026, 1, number).timestamp(),) * 2)
    (tmp_path / "best").write_bytes(b"")  # of another one
    assert dl.ModelCheckpoint(tmp_path / "{epoch}").last_path.name == "10"


# ---- trainers made of files


def own_optimizer(model):
    return resumable_fits._SignStep(model.parameters(), 1e-2)


HANDED_OVER = {
    "adamw": lambda: {"metrics": ["accuracy", "f1", resumable_fits._mean_logit]},
    "plateau": lambda: {"callbacks": FITS["plateau"]()[0].callbacks},
    "early_stopping": lambda: {"callbacks": [dl.EarlyStopping("val_loss", patience=2)]},
    "moving_average": lambda: {"callbacks": FITS["moving_average"]()[0].callbacks},
    "stochastic_average": lambda: {"callbacks": [dl.StochasticWeightAveraging(2)]},
    "own_parts": lambda: {"optimizer": own_optimizer, "callbacks": [resumable_fits.Counted()]},
}


@pytest.mark.parametrize("name", AGAIN)
def test_a_trainer_is_made_of_its_file(name, tmp_path):
    first, options = FITS[name]()
    stream = options.pop("stream", None)
    data = rows()[:2] if stream is None else (stream,)
    first.fit(*data, epochs=2, verbose=0, **options)
    path = as_path(tmp_path)
    first.save(path)
    if name in HANDED_OVER:
        with pytest.raises(ValueError, match=r"hand it over|has the state of|no state of"):
            dl.Trainer.load(path)
    second = dl.Trainer.load(path, **HANDED_OVER.get(name, dict)())
    assert repr(second.model) == repr(first.model)
    assert repr(second) == repr(first)
    ends = [
        resumable_fits.outcome(t, t.fit(*data, epochs=2, verbose=0, **options))
        for t in (first, second)
    ]
    same(ends[1], ends[0])


@pytest.mark.parametrize(
    "loss",
    [
        dl.CrossEntropyLoss([1.0, 2.0, 0.5], label_smoothing=0.1),
        dl.FocalLoss(1.5),
        dl.QuantileLoss([0.1, 0.5, 0.9]),
    ],
)
@pytest.mark.parametrize(
    "schedule",
    [
        dl.Warmup(dl.CosineAnnealingLR(5), steps=2),
        dl.SequentialLR([dl.StepLR(2), dl.MultiStepLR([3, 5])], [4]),
        None,
    ],
)
def test_losses_and_schedules_have_a_form_in_files(loss, schedule, tmp_path):
    trainer = dl.Trainer(network(), loss=loss, schedule=schedule)
    trainer.save(tmp_path / "state")
    other = dl.Trainer.load(tmp_path / "state")
    assert repr(other) == repr(trainer)
    assert other.schedule == schedule


def test_what_has_no_form_in_a_file_is_named(tmp_path):
    class OwnLoss(dl.MSELoss):
        pass

    path = tmp_path / "state"
    trainer = dl.Trainer(network(), loss=OwnLoss(), schedule=lambda epoch: 0.1 / (1 + epoch))
    trainer.save(path)
    with pytest.raises(ValueError, match="no form for the loss"):
        dl.Trainer.load(path)
    with pytest.raises(ValueError, match="no form for the schedule"):
        dl.Trainer.load(path, loss=OwnLoss())
    trainer = dl.Trainer.load(path, loss=OwnLoss(), schedule=trainer.schedule)
    assert isinstance(trainer.loss, OwnLoss)
    dl.save(network(), path)
    with pytest.raises(ValueError, match="holds a model, not a training"):
        dl.Trainer.load(path)
