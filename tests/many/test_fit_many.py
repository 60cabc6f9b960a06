"""Independent trainers at once: each member's bits, errors, Ctrl-C, what is refused."""

import copy
import signal
import threading
import time

import numpy as np
import pytest

import dlcore as dl

N, K = 300, 5


def data(dtype=np.float32):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, 6)).astype(dtype)
    return x, (x[:, 0] * x[:, 1] > 0).astype(np.int64)


def trainer_of(i, *, dtype=np.float32, lr=3e-3, **options):
    layers = dl.Linear(6, 16), dl.BatchNorm1d(16), dl.ReLU(), dl.Dropout(0.1 + 0.1 * i)
    model = dl.Sequential(*layers, dl.Linear(16, 2), dtype=dtype, seed=i)
    optimizer = dl.AdamW(model.parameters(), lr=lr * (1 + i), weight_decay=0.01 * i)
    options = {"loss": "cross_entropy", "metrics": ["accuracy"]} | options
    return dl.Trainer(model, optimizer=optimizer, seed=10 + i, **options)


def bootstrap(i):
    return np.random.default_rng(i).integers(0, N, 200)


def assert_same(trainer, history, other, other_history):
    assert dict(history) == dict(other_history)
    assert history.epoch == other_history.epoch
    assert (history.best_epoch, history.reason) == (other_history.best_epoch, other_history.reason)
    np.testing.assert_array_equal(trainer.model.flat, other.model.flat)
    for name, array in trainer.model.state_dict().items():
        np.testing.assert_array_equal(array, other.model.state_dict()[name])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_a_member_has_the_bits_that_it_has_alone(dtype, workers):
    x, y = data(dtype)
    rows = [bootstrap(i) for i in range(K)]
    held = [np.setdiff1d(np.arange(N), own) for own in rows]
    epochs, sizes = [6, 3, 9, 4, 0], [16, 32, 7, 200, 64]
    members = [trainer_of(i, dtype=dtype) for i in range(K)]
    with dl.num_threads(workers):
        histories = dl.fit_many(
            members,
            x,
            y,
            epochs=epochs,
            batch_size=sizes,
            rows=rows,
            validation_rows=held,
            callbacks=[dl.EarlyStopping(patience=2)],
            class_weight="balanced",
            verbose=0,
        )
    for i in range(K):
        alone = trainer_of(i, dtype=dtype)
        history = alone.fit(
            x[rows[i]],
            y[rows[i]],
            epochs=epochs[i],
            batch_size=sizes[i],
            validation_data=(x[held[i]], y[held[i]]),
            callbacks=[dl.EarlyStopping(patience=2)],
            class_weight="balanced",
            verbose=0,
        )
        assert_same(members[i], histories[i], alone, history)


def test_many_epochs_in_one_native_run_and_all_rows():
    x, y = data()
    plain = {"loss": "cross_entropy"}

    def made():
        models = [
            dl.Sequential(dl.Linear(6, 8), dl.ReLU(), dl.Linear(8, 2), seed=i) for i in range(6)
        ]
        return [dl.Trainer(model, seed=i, **plain) for i, model in enumerate(models)]

    members, alone = made(), made()
    histories = dl.fit_many(members, x, y, epochs=70, workers=2, verbose=0)
    for i, trainer in enumerate(alone):
        assert_same(members[i], histories[i], trainer, trainer.fit(x, y, epochs=70, verbose=0))


@pytest.mark.parametrize("split", [0.0, 0.25])
def test_rows_and_weights_and_a_split(split):
    """A split is drawn of the rows of a member; a mask is its rows in order."""
    x, y = data()
    weight = np.random.default_rng(3).integers(0, 3, N).astype(float)
    masks = [np.random.default_rng(i).random(N) < 0.6 for i in range(3)]
    members = [trainer_of(i) for i in range(3)]
    histories = dl.fit_many(
        members,
        x,
        y,
        epochs=3,
        rows=masks,
        sample_weight=weight,
        validation_split=split,
        shuffle=False,
        verbose=0,
    )
    for i, mask in enumerate(masks):
        alone = trainer_of(i)
        options = {"validation_split": split, "sample_weight": weight[mask], "shuffle": False}
        history = alone.fit(x[mask], y[mask], epochs=3, verbose=0, **options)
        assert_same(members[i], histories[i], alone, history)


def test_transforms_and_sparse_rows():
    x, y = data()

    def noisy(batch, rng):
        return batch + rng.normal(0, 0.1, batch.shape).astype(batch.dtype)

    members, alone = ([trainer_of(i) for i in range(3)] for _ in range(2))
    histories = dl.fit_many(members, x, y, epochs=2, transform=noisy, workers=2, verbose=0)
    for own, history, other in zip(members, histories, alone, strict=True):
        assert_same(own, history, other, other.fit(x, y, epochs=2, transform=noisy, verbose=0))
    sparse = pytest.importorskip("scipy.sparse").csr_matrix(x * (x > 0))
    rows = [bootstrap(i) for i in range(2)]
    members, alone = ([trainer_of(i) for i in range(2)] for _ in range(2))
    histories = dl.fit_many(members, sparse, y, epochs=2, rows=rows, verbose=0)
    for i, other in enumerate(alone):
        history = other.fit(sparse[rows[i]], y[rows[i]], epochs=2, verbose=0)
        assert_same(members[i], histories[i], other, history)


def test_a_loss_and_an_optimizer_of_ones_own_run_in_the_threads():
    class Own(dl.CrossEntropyLoss):
        pass

    class Signed:
        def __init__(self, params):
            self.params, self.lr = params, 0.01

        def step(self, grads):
            for parameter, grad in zip(self.params, grads, strict=True):
                parameter -= self.lr * np.sign(grad)

    def made(i):
        trainer = trainer_of(i, loss=Own())
        trainer.optimizer = Signed(trainer.model.parameters())
        return trainer

    x, y = data()
    members = [made(i) for i in range(3)]
    histories = dl.fit_many(members, x, y, epochs=2, workers=2, verbose=0)
    for i in range(3):
        alone = made(i)
        assert_same(members[i], histories[i], alone, alone.fit(x, y, epochs=2, verbose=0))


def test_settings_of_the_calling_thread_hold_in_the_workers():
    seen = []

    class Notes(dl.Callback):
        def on_epoch_end(self, epoch, logs):  # noqa: ARG002
            with np.errstate():
                seen.append((np.geterr()["over"], threading.current_thread().name))

    x, y = data()
    with np.errstate(over="raise"), dl.num_threads(2):
        dl.fit_many(
            [trainer_of(i) for i in range(4)], x, y, epochs=1, callbacks=[Notes()], verbose=0
        )
        assert dl.get_num_threads() == 2
    assert {over for over, _ in seen} == {"raise"}
    assert all(name.startswith("dlcore-many") for _, name in seen)
    assert not [t for t in threading.enumerate() if t.name.startswith("dlcore-many")]


def test_native_threads_are_shared_out_and_the_last_member_gets_all():
    x, y = data()
    seen = {10: [], 11: []}  # by seed
    both, first_is_over = threading.Barrier(2), threading.Event()

    class Asks(dl.Callback):
        def __deepcopy__(self, memo):
            return Asks()

        def on_epoch_begin(self, epoch):
            seed = self.trainer._seed
            seen[seed].append(dl.get_num_threads())
            if epoch == 0:
                both.wait(10)
            elif seed == 11:
                first_is_over.wait(10)

    def over(member):  # told once the first one has ended
        first_is_over.set()

    members = [trainer_of(i) for i in range(2)]
    members[0].callbacks = [Ends(over)]
    with dl.num_threads(4):
        options = {"callbacks": [Asks()], "workers": 2, "verbose": 0}
        dl.fit_many(members, x, y, epochs=[1, 200], **options)
    assert seen[10] == [2]
    assert seen[11][0] == 2
    assert seen[11][-1] == 4


class Ends(dl.Callback):
    def __init__(self, call):
        self.call = call

    def on_fit_end(self):
        self.call(self)


# ---- what goes wrong


def diverging(i):
    return trainer_of(i, lr=1e30 if i == 1 else 3e-3, dtype=np.float32)


def test_an_error_names_the_member_and_stops_the_others():
    x, y = data()
    members = [diverging(i) for i in range(2)]
    begin = time.perf_counter()
    with pytest.raises(FloatingPointError) as caught:
        dl.fit_many(members, x, y, epochs=100_000, workers=2, verbose=0)
    assert time.perf_counter() - begin < 10
    assert "in member 1 of 2; the others were stopped" in caught.value.__notes__
    for trainer in members:
        assert np.isfinite(trainer.model.flat).all()
        assert trainer.model(x).shape == (N, 2)
    other = members[0]
    assert len(other.history.epoch) == len(other.history["loss"])
    other.fit(x, y, epochs=1, verbose=0)


def test_the_others_may_go_on():
    x, y = data()
    members, alone = ([diverging(i) for i in range(4)] for _ in range(2))
    histories = dl.fit_many(members, x, y, epochs=4, on_error="continue", verbose=0)
    assert list(histories.errors) == [1]
    assert isinstance(histories.errors[1], FloatingPointError)
    losses = histories.values("loss")
    assert np.isnan(losses[1])
    for i in (0, 2, 3):
        assert_same(members[i], histories[i], alone[i], alone[i].fit(x, y, epochs=4, verbose=0))
        assert losses[i] == histories[i]["loss"][-1]
    assert np.isnan(histories.values("val_loss")).all()


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("stops_early", [False, True])
def test_ctrl_c_stops_all_within_half_a_second(workers, stops_early):
    x, y = data()
    members = [trainer_of(i) for i in range(4)]
    callbacks = [dl.EarlyStopping(patience=10**6)] if stops_early else []
    options = {"validation_split": 0.2} if stops_early else {}
    begun, times = threading.Event(), []

    class Begins(dl.Callback):
        def on_epoch_begin(self, epoch):
            if epoch == 3:
                begun.set()

        def __deepcopy__(self, memo):
            return Begins()

    def interrupt():
        begun.wait(10)
        times.append(time.perf_counter())
        signal.raise_signal(signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        dl.fit_many(
            members,
            x,
            y,
            epochs=10**6,
            callbacks=[Begins(), *callbacks],
            workers=workers,
            verbose=0,
            **options,
        )
    assert not [t for t in threading.enumerate() if t.name.startswith("dlcore-many")]
    thread.join()
    assert times
    for trainer in members:
        assert np.isfinite(trainer.model(x)).all()
        trainer.fit(x, y, epochs=1, verbose=0)
    if stops_early:
        history = members[0].history
        assert history.reason is None


def test_an_exception_of_a_callback_that_is_no_error_comes_out_too():
    class Leaves(dl.Callback):
        def on_epoch_begin(self, epoch):
            if epoch == 1:
                raise SystemExit(3)

    x, y = data()
    with pytest.raises(SystemExit):
        dl.fit_many(
            [trainer_of(i) for i in range(3)],
            x,
            y,
            epochs=10**6,
            callbacks=[Leaves()],
            workers=2,
            on_error="continue",
            verbose=0,
        )


def test_bad_input_is_told_before_anything_is_changed():
    x, y = data()
    members = [trainer_of(i) for i in range(3)]
    before = [copy.deepcopy(trainer.model.flat) for trainer in members]
    fit = dl.fit_many
    with pytest.raises(ValueError, match=r"trainers\[0\] and trainers\[1\] share one Trainer"):
        fit([members[0], members[0]], x, y, epochs=1)
    twin = dl.Trainer(members[0].model, loss="cross_entropy")
    with pytest.raises(ValueError, match=r"trainers\[0\] and trainers\[2\] share one Linear"):
        fit([members[0], members[1], twin], x, y, epochs=1)
    stopping = dl.EarlyStopping()
    both = [trainer_of(i, callbacks=[stopping]) for i in range(2)]
    with pytest.raises(ValueError, match="share one EarlyStopping"):
        fit(both, x, y, epochs=1, validation_split=0.2)
    with pytest.raises(TypeError, match="trainers must be a list"):
        fit(members[0], x, y, epochs=1)
    with pytest.raises(TypeError, match=r"trainers\[1\] must be a Trainer"):
        fit([members[0], "adam"], x, y, epochs=1)
    with pytest.raises(ValueError, match="epochs has 2 values for 3 trainers"):
        fit(members, x, y, epochs=[1, 2])
    with pytest.raises(ValueError, match="rows has indices for 1 members, but there are 3"):
        fit(members, x, y, epochs=1, rows=[[0]])
    with pytest.raises(IndexError, match=r"rows\[2\]\[1\] is 300, but x has 300 rows"):
        fit(members, x, y, epochs=1, rows=[[0], [1], [2, 300]])
    with pytest.raises(IndexError, match=r"rows\[0\]\[0\] is -1"):
        fit(members, x, y, epochs=1, rows=[[-1], [1], [2]])
    with pytest.raises(TypeError, match=r"rows\[0\] must hold indices of rows"):
        fit(members, x, y, epochs=1, rows=[[0.5], [1], [2]])
    with pytest.raises(ValueError, match=r"rows\[0\] is a mask of shape \(2,\)"):
        fit(members, x, y, epochs=1, rows=[[True, False], [1], [2]])
    with pytest.raises(ValueError, match="no row to train on counts") as caught:
        fit(members, x, y, epochs=1, rows=[[0], np.zeros(N, bool), [2]])
    assert "in member 1 of 3" in caught.value.__notes__
    with pytest.raises(ValueError, match="validation x has no row that counts"):
        fit(members, x, y, epochs=1, validation_rows=[[0], [0], np.zeros(N, bool)])
    with pytest.raises(ValueError, match="validation_data or validation_rows"):
        fit(members, x, y, epochs=1, validation_rows=[[0]] * 3, validation_split=0.5)
    with pytest.raises(TypeError, match="fit_many takes no resume"):
        fit(members, x, y, epochs=1, resume="x")
    with pytest.raises(TypeError, match="fit_many needs x and y"):
        fit(members, [(x, y)], None, epochs=1)
    with pytest.raises(ValueError, match="on_error must be"):
        fit(members, x, y, epochs=1, on_error="ignore")
    with pytest.raises(ValueError, match="workers must be a positive integer"):
        fit(members, x, y, epochs=1, workers=0)
    with pytest.raises(ValueError, match="would write to one place"):
        fit(members, x, y, epochs=1, callbacks=[dl.CSVLogger("log.csv")])
    with pytest.raises(IndexError):
        fit(members, x, y + 2, epochs=1)
    for trainer, flat in zip(members, before, strict=True):
        np.testing.assert_array_equal(trainer.model.flat, flat)
    assert fit([], x, y, epochs=1) == []


@pytest.mark.parametrize("verbose", [1, 2])
def test_lines_of_members(verbose, capsys):
    x, y = data()
    members = [diverging(i) for i in range(3)]
    dl.fit_many(members, x, y, epochs=2, on_error="continue", workers=2, verbose=verbose)
    lines = capsys.readouterr().out
    for number in (1, 2, 3):
        assert f"member {number}/3" in lines
    assert "failed: FloatingPointError" in lines
    assert "epochs 2  loss" in lines


def test_a_state_that_a_member_saved_is_of_its_rows(tmp_path):
    x, y = data()
    rows = [bootstrap(i) for i in range(2)]
    saver = dl.ModelCheckpoint(tmp_path / "state", every=1)
    trainer = trainer_of(0, callbacks=[saver])
    dl.fit_many([trainer, trainer_of(1)], x, y, epochs=2, rows=rows, verbose=0)
    with pytest.raises(ValueError, match="rows to train on"):
        trainer_of(0, callbacks=[saver]).fit(x, y, epochs=4, resume=saver.last_path, verbose=0)


def test_fits_within_a_fit_are_stopped_with_it():
    x, y = data()

    class Nests(dl.Callback):
        def on_epoch_begin(self, epoch):  # noqa: ARG002
            inner = [trainer_of(i) for i in range(2)]
            dl.fit_many(inner, x, y, epochs=10**6, workers=2, verbose=0)

    members = [trainer_of(0, callbacks=[Nests()]), diverging(1)]
    with pytest.raises(FloatingPointError):
        dl.fit_many(members, x, y, epochs=5, workers=2, verbose=0)
    assert not [t for t in threading.enumerate() if t.name.startswith("dlcore-many")]
