"""Copies of models, optimizers, trainers and callbacks: bound as before, trainable, apart from the original."""

import copy
import io
import pickle

import numpy as np
import pytest

import dlcore as dl

joblib = pytest.importorskip("joblib")


def by_pickle(thing):
    return pickle.loads(pickle.dumps(thing))


def by_joblib(thing):
    file = io.BytesIO()
    joblib.dump(thing, file)
    file.seek(0)
    return joblib.load(file)


def by_read_only_map(thing, folder):
    path = folder / f"{len(list(folder.iterdir()))}.joblib"  # others are mapped
    joblib.dump(thing, path)
    return joblib.load(path, mmap_mode="r")


@pytest.fixture(params=["deepcopy", "pickle", "joblib", "map"])
def clone(request, tmp_path):
    ways = {"deepcopy": copy.deepcopy, "pickle": by_pickle, "joblib": by_joblib}
    return ways.get(request.param, lambda thing: by_read_only_map(thing, tmp_path))


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    return rng.normal(size=(60, 6)).astype(np.float32), rng.integers(0, 3, 60)


def network():
    layers = dl.Linear(6, 8), dl.BatchNorm1d(8), dl.ReLU(), dl.Dropout(0.2), dl.Linear(8, 3)
    return dl.Sequential(*layers, seed=0)


OPTIMIZERS = [
    lambda params: dl.SGD(params, lr=0.1, momentum=0.9),
    lambda params: dl.Adam(params, lr=1e-2, amsgrad=True),
    lambda params: dl.AdamW(params, lr=1e-2),
]


def trainer_of(make_optimizer, *callbacks):
    model = network()
    optimizer = make_optimizer(model.parameters())
    return dl.Trainer(
        model,
        loss="cross_entropy",
        optimizer=optimizer,
        metrics=["accuracy"],
        schedule=dl.ExponentialLR(0.9, per="iteration"),
        callbacks=callbacks,
        seed=0,
    )


@pytest.mark.parametrize("make_optimizer", OPTIMIZERS)
def test_a_copied_trainer_goes_on_as_the_original_does(make_optimizer, clone, rows):
    callbacks = dl.ExponentialMovingAverage(0.9), dl.EarlyStopping("loss", restore_best=False)
    trainer = trainer_of(make_optimizer, *callbacks)
    trainer.fit(*rows, epochs=2, verbose=0)
    copied = clone(trainer)
    assert all(callback.trainer is copied for callback in copied.callbacks)
    before = trainer.model.flat.copy()
    history = copied.fit(*rows, epochs=2, verbose=0)
    assert np.array_equal(trainer.model.flat, before)
    assert history == trainer.fit(*rows, epochs=2, verbose=0)
    assert np.array_equal(copied.model.flat, trainer.model.flat)
    for name, array in copied.model.state_dict().items():
        assert np.array_equal(array, trainer.model.state_dict()[name]), name


def follows(optimizer, model):
    """Whether a step of an optimizer changes what the model predicts."""
    x = np.ones((1, model.in_features), model.dtype)
    before = model(x)
    optimizer.step([np.full_like(p, 0.5) for p in optimizer.params])
    inside = all(np.shares_memory(p, model.flat) for p in optimizer.params)
    return inside and not np.array_equal(model(x), before)


@pytest.mark.parametrize("make_optimizer", OPTIMIZERS)
@pytest.mark.parametrize("model_first", [True, False])
def test_a_copied_optimizer_updates_the_copied_model(make_optimizer, model_first, clone):
    model = network()
    optimizer = make_optimizer(model.parameters())
    optimizer.step([np.ones_like(p) for p in model.parameters()])
    if model_first:
        copied, own = clone((model, optimizer))
    else:
        own, copied = clone((optimizer, model))
    before = model.flat.copy()
    assert follows(own, copied)
    assert np.array_equal(model.flat, before)
    optimizer.step([np.full_like(p, 0.5) for p in model.parameters()])
    assert np.array_equal(model.flat, copied.flat)


def test_what_is_copied_together_stays_together_however_it_is_nested(clone):
    model = network()
    optimizers = [dl.SGD(model.parameters("0")), dl.Adam(model.parameters("4"))]
    copied = clone({"o": optimizers, "other": network(), "m": [model]})
    assert all(follows(optimizer, copied["m"][0]) for optimizer in copied["o"])
    again = clone(copied)
    assert all(follows(optimizer, again["m"][0]) for optimizer in again["o"])
    assert not np.shares_memory(again["m"][0].flat, copied["m"][0].flat)


def test_an_optimizer_of_a_part_follows_the_part_or_the_whole(clone):
    model = network()
    head = model[3:]
    optimizer = dl.SGD(head.parameters())
    part, own = clone((head, optimizer))
    assert part.flat.size == head.flat.size
    assert follows(own, part)
    own, whole = clone((optimizer, model))
    assert follows(own, whole)
    own, part, whole = clone((optimizer, head, model))
    assert follows(own, whole)


def test_an_optimizer_that_is_copied_alone_has_parameters_of_its_own(clone):
    model = network()
    optimizer = dl.Adam(model.parameters())
    optimizer.step([np.ones_like(p) for p in model.parameters()])
    before = model.flat.copy()
    copied = clone(optimizer)
    copied.step([np.ones_like(p) for p in copied.params])
    assert np.array_equal(model.flat, before)
    optimizer.step([np.ones_like(p) for p in model.parameters()])
    for own, other in zip(optimizer.params, copied.params, strict=True):
        assert np.array_equal(own, other)


def test_a_nested_model_has_left_its_optimizer_behind():
    inner = dl.Sequential(dl.Linear(3, 3), seed=0)
    optimizer = dl.SGD(inner.parameters())
    dl.Sequential(inner, dl.Linear(3, 2), seed=0)
    copied, own = copy.deepcopy((inner, optimizer))
    assert not any(np.shares_memory(p, copied.flat) for p in own.params)


def test_shallow_copies_share_the_parameters(rows):
    trainer = trainer_of(OPTIMIZERS[1])
    trainer.fit(*rows, epochs=1, verbose=0)
    model, optimizer = copy.copy(trainer.model), copy.copy(trainer.optimizer)
    assert np.shares_memory(model.flat, trainer.model.flat)
    assert all(a is b for a, b in zip(optimizer.params, trainer.optimizer.params, strict=True))
    moments = trainer.optimizer.state_dict()["state"][0]["exp_avg"]
    assert follows(optimizer, trainer.model)
    assert np.array_equal(trainer.optimizer.state_dict()["state"][0]["exp_avg"], moments)
    x = rows[0]
    assert np.array_equal(model(x), trainer.model(x))
    trainer.model[3].p = 0.5  # the layers still belong to the original
    other = copy.copy(trainer)
    assert other.model is trainer.model
    other.fit(*rows, epochs=1, verbose=0)
    assert np.array_equal(model(x), trainer.model(x))


@pytest.mark.parametrize("how", [copy.deepcopy, copy.copy, by_pickle])
def test_a_callback_is_copied_without_its_fit(how, rows):
    class Copies(dl.Callback):
        def on_epoch_end(self, epoch, logs):  # noqa: ARG002
            stopping = self.trainer.callbacks[0]
            self.copied = how(stopping)
            self.size = len(pickle.dumps(stopping))

    stopping, copies = dl.EarlyStopping("loss"), Copies()
    trainer = trainer_of(OPTIMIZERS[0], stopping, copies)
    x = np.zeros((5000, 6), np.float32)
    x[:60] = rows[0]
    trainer.fit(x, np.arange(5000) % 3, epochs=2, verbose=0)
    assert not hasattr(copies.copied, "trainer")
    assert copies.copied.best == stopping.best
    assert stopping.trainer is trainer
    assert copies.size < 5000


def test_a_trainer_that_is_copied_amid_a_fit_leaves_the_rows_behind():
    sizes = []

    class Copies(dl.Callback):
        def on_epoch_end(self, epoch, logs):  # noqa: ARG002
            callbacks, self.trainer.active_callbacks = self.trainer.active_callbacks, []
            sizes.append(len(pickle.dumps(self.trainer)))
            self.trainer.active_callbacks = callbacks

    trainer = trainer_of(OPTIMIZERS[0])
    trainer.fit(
        np.zeros((5000, 6), np.float32),
        np.arange(5000) % 3,
        epochs=1,
        verbose=0,
        callbacks=[Copies()],
    )
    assert sizes[0] < 10_000


def test_fitted_estimators_learn_on_from_a_copy(clone, rows):
    sklearn = pytest.importorskip("dlcore.sklearn")
    x, y = rows
    ema = dl.ExponentialMovingAverage(0.9)
    own = sklearn.MLPClassifier((8,), random_state=0, batch_size=20, callbacks=[ema])
    for _ in range(2):
        own.partial_fit(x, y, classes=[0, 1, 2])
    copied = clone(own)
    own.set_params(random_state=1)
    copied.set_params(random_state=1)
    own.partial_fit(x, y)
    copied.partial_fit(x, y)
    assert np.array_equal(own.model_.flat, copied.model_.flat)
    assert not np.shares_memory(own.model_.flat, copied.model_.flat)
