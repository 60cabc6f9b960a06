"""Ranks that are given the same rows end with the bits of one process, however many they are."""

import time

import numpy as np
import pytest
import scipy.sparse

import dlcore as dl
from dlcore.training._ranks import SharedWork
from support.exported_layers import LAYERS, MEANS_INSIDE, model_of, rows_of
from support.ranks import on_ranks
from support.resumable_fits import FITS, fit, outcome

SIZES = (2, 3, 4)


@pytest.fixture(autouse=True)
def free_messages(monkeypatch):
    """Share every batch, as if messages took no time."""
    monkeypatch.setattr(
        SharedWork, "measured", classmethod(lambda cls, ranks: cls(ranks, 0.0, 0.0))
    )


def data(rows=300, classes=3, dtype=np.float32):
    rng = np.random.default_rng(3)
    return rng.normal(size=(rows, 7)).astype(dtype), rng.integers(0, classes, rows)


def deep(dtype=np.float32, normalization=dl.BatchNorm1d, **options):
    layers = (
        *(dl.Linear(7, 40), normalization(40), dl.ReLU(), dl.Dropout(0.2)),
        *(dl.Linear(40, 33), dl.Tanh(), dl.Linear(33, 3)),
    )
    return dl.Sequential(*layers, dtype=dtype, seed=0, **options)


OPTIMIZERS = {
    "SGD": lambda p: dl.SGD(p, lr=0.05),
    "momentum": lambda p: dl.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    "Adam": lambda p: dl.Adam(p, lr=0.01, amsgrad=True),
    "AdamW": lambda p: dl.AdamW(p, lr=0.01),
}
OPTIONS = {
    "plain": {},
    "norm": {"clip_grad_norm": 0.05},
    "value": {"clip_grad_value": 0.01},
    "accumulated": {"accumulate": 3, "clip_grad_norm": 0.1},
    "scheduled": {"schedule": dl.CosineAnnealingLR(12, per="iteration")},
    "metrics": {"metrics": ["accuracy", "f1"]},
}


def deep_fit(comm, optimizer="Adam", options="plain", dtype=np.float32, batch_size=100, **of_fit):
    model = deep(dtype)
    trainer = dl.Trainer(
        model,
        loss="cross_entropy",
        optimizer=OPTIMIZERS[optimizer](model.parameters()),
        seed=1,
        comm=comm,
        **OPTIONS[options],
    )
    x, y = data(dtype=dtype)
    history = trainer.fit(x, y, epochs=3, batch_size=batch_size, verbose=0, **of_fit)
    return outcome(trainer, history)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("options", OPTIONS)
def test_bits_of_one_process(optimizer, options):
    alone = deep_fit(None, optimizer, options)
    for size in SIZES:
        assert on_ranks(size, lambda comm: deep_fit(comm, optimizer, options)) == [alone] * size


@pytest.mark.parametrize(
    "of_fit",
    [
        {"batch_size": 300},
        {"batch_size": 7},
        {"batch_size": 1, "shuffle": False},
        {"class_weight": "balanced", "validation_split": 0.2},
        {"sample_weight": np.arange(300) % 4 * 0.5},
        {"max_iterations": 7, "log_every": 2},
    ],
    ids=lambda given: "-".join(given),
)
def test_bits_of_other_fits(of_fit, isa):
    for dtype in (np.float32, np.float64):

        def one(comm, dtype=dtype):
            return deep_fit(comm, dtype=dtype, **of_fit)

        assert on_ranks(3, one) == [one(None)] * 3


@pytest.mark.parametrize("name", [name for name in LAYERS if name not in MEANS_INSIDE])
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
def test_bits_of_each_layer(name, dtype):
    x = np.repeat(rows_of(name, 3, dtype), 14, axis=0)
    width = len(model_of(name, 3, dtype)(x[:1])[0])
    y = np.random.default_rng(0).normal(size=(len(x), width)).astype(dtype)

    def one(comm):
        trainer = dl.Trainer(model_of(name, 3, dtype), loss="mse", seed=0, comm=comm)
        return outcome(trainer, trainer.fit(x, y, epochs=2, batch_size=96, verbose=0))

    assert on_ranks(3, one) == [one(None)] * 3


@pytest.mark.parametrize("name", FITS)
def test_bits_of_each_kind_of_fit(name):
    alone = fit(name)
    assert on_ranks(3, lambda comm: fit(name, comm=comm)) == [alone] * 3


@pytest.mark.parametrize("density", [0.02, 0.5])
def test_bits_of_sparse_rows(density):
    rng = np.random.default_rng(0)
    dense = rng.normal(size=(400, 90)) * (rng.random((400, 90)) < density)
    x = scipy.sparse.csr_matrix(dense.astype(np.float32))
    y = np.random.default_rng(1).integers(0, 3, 400)

    def one(comm):
        model = dl.Sequential(dl.Linear(90, 40), dl.ReLU(), dl.Linear(40, 3), seed=0)
        trainer = dl.Trainer(model, loss="cross_entropy", seed=0, comm=comm, clip_grad_norm=1.0)
        return outcome(trainer, trainer.fit(x, y, epochs=3, batch_size=130, verbose=0))

    assert on_ranks(3, one) == [one(None)] * 3


def test_bits_of_an_embedding_table_whose_rows_wait():
    x = np.random.default_rng(0).integers(0, 20_000, (300, 1)).astype(np.float32)
    y = np.random.default_rng(1).integers(0, 3, 300)

    def one(comm):
        layers = dl.Embedding(20_000, 8), dl.Linear(8, 3)
        model = dl.Sequential(*layers, seed=0)
        trainer = dl.Trainer(model, loss="cross_entropy", seed=0, comm=comm)
        return outcome(trainer, trainer.fit(x, y, epochs=3, batch_size=64, verbose=0))

    assert on_ranks(2, one) == [one(None)] * 2


def test_rank_0_gives_seeds_and_weights():
    x, y = data()

    def one(comm):
        model = dl.Sequential(dl.Linear(7, 9), dl.ReLU(), dl.Dropout(0.5), dl.Linear(9, 3))
        trainer = dl.Trainer(model, loss="cross_entropy", comm=comm)
        trainer.fit(x, y, epochs=2, validation_split=0.3, verbose=0)
        return outcome(trainer, trainer.history)

    first, *others = on_ranks(3, one)
    assert others == [first] * 2


def test_an_optimizer_that_was_used_before_is_that_of_rank_0():
    x, y = data()

    def one(comm):
        model = deep()
        trainer = dl.Trainer(model, loss="cross_entropy", seed=0)
        trainer.fit(x, y, epochs=1 + comm.rank, verbose=0)
        trainer.comm = comm
        trainer.fit(x, y, epochs=1, verbose=0)
        return outcome(trainer, trainer.history)

    first, *others = on_ranks(2, one)
    assert others == [first]


@pytest.mark.parametrize("given", ["x", "y", "columns"])
def test_other_rows_are_an_error_on_all_ranks(given):
    def one(comm):
        x, y = data()
        if comm.rank == 2:
            x, y = {"x": (x[:-1], y[:-1]), "y": (x, y[::-1]), "columns": (x[:, :5], y)}[given]
        model = dl.Sequential(dl.Linear(x.shape[1], 3), seed=0)
        dl.Trainer(model, loss="cross_entropy", seed=0, comm=comm).fit(x, y, epochs=1, verbose=0)

    outcomes = on_ranks(3, one)
    for error in outcomes:
        assert isinstance(error, ValueError)
        assert "rank 2" in str(error)
        assert "sharded=True" in str(error)


def test_what_is_wrong_on_one_rank_is_told_on_all():
    x, y = data()

    def one(comm):
        trainer = dl.Trainer(deep(), loss="cross_entropy", seed=0, comm=comm)
        with pytest.raises(ValueError, match=r"rank 1 of 2.*batch_size"):
            trainer.fit(x, y, epochs=1, batch_size=-comm.rank or 5, verbose=0)
        trainer.fit(x, y, epochs=1, verbose=0)  # they still go together
        return outcome(trainer, trainer.history)

    first, second = on_ranks(2, one)
    assert first == second


@pytest.mark.parametrize(("value", "rate"), [(np.nan, 0.1), (1.0, 1e37)])
def test_divergence_is_the_same_error_on_all(value, rate):
    def one(comm):
        x, y = data()
        x[250] = value
        model = deep(normalization=lambda n: dl.Linear(n, n))
        trainer = dl.Trainer(
            model,
            loss="cross_entropy",
            seed=0,
            comm=comm,
            optimizer=dl.SGD(model.parameters(), rate),
        )
        with pytest.raises(FloatingPointError) as error:
            trainer.fit(x, y, epochs=9, batch_size=128, verbose=0)
        return str(error.value), outcome(trainer, trainer.history)

    assert on_ranks(3, one) == [one(None)] * 3


def test_a_label_out_of_range_is_the_same_error_on_all():
    def one(comm):
        x, y = data()
        y[299] = 3
        trainer = dl.Trainer(deep(), loss="cross_entropy", seed=0, comm=comm)
        with pytest.raises(IndexError) as error:
            trainer.fit(x, y, epochs=1, batch_size=300, shuffle=False, verbose=0)
        return str(error.value)

    outcomes = on_ranks(3, one)
    assert all("3" in text for text in outcomes)


class Fails(dl.Callback):
    def __init__(self, rank, event):
        self.rank, self.event = rank, event

    def on_epoch_end(self, epoch, logs):  # noqa: ARG002
        if self.event == "error" and epoch == 1 and self.rank == 1:
            raise RuntimeError("the disk is full")
        if self.event == "stop" and epoch == 1 and self.rank == 1:
            self.trainer.stop("rank 1 has seen enough")


def test_a_callback_that_fails_on_one_rank_fails_on_all():
    x, y = data()

    def one(comm):
        trainer = dl.Trainer(deep(), loss="cross_entropy", seed=0, comm=comm)
        with pytest.raises(RuntimeError, match="rank 1 of 3: the disk is full"):
            trainer.fit(x, y, epochs=4, callbacks=[Fails(comm.rank, "error")], verbose=0)
        return trainer.history["loss"]

    first, *others = on_ranks(3, one)
    assert others == [first] * 2


def test_a_callback_that_stops_on_one_rank_stops_all():
    x, y = data()

    def one(comm):
        trainer = dl.Trainer(deep(), loss="cross_entropy", seed=0, comm=comm)
        trainer.fit(x, y, epochs=9, callbacks=[Fails(comm.rank, "stop")], verbose=0)
        return trainer.history.stopped_epoch, trainer.history.reason

    assert on_ranks(3, one) == [(1, "rank 1 has seen enough")] * 3


def test_rank_0_alone_writes_and_reports(tmp_path, capsys):
    x, y = data()

    def one(comm):
        folder = tmp_path / str(comm.rank)
        callbacks = [
            dl.ModelCheckpoint(folder / "run.safetensors", every=2, unit="batches"),
            dl.CSVLogger(tmp_path / f"{comm.rank}.csv"),
        ]
        trainer = dl.Trainer(deep(), loss="cross_entropy", seed=0, comm=comm, callbacks=callbacks)
        trainer.fit(x, y, epochs=2, batch_size=50, verbose=2)
        return outcome(trainer, trainer.history)

    first, *others = on_ranks(3, one)
    assert others == [first] * 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "0.csv"]
    assert capsys.readouterr().out.count("epoch 1") <= 1


def test_a_time_limit_ends_all_ranks_after_the_same_batch():
    x, y = data(3000)

    class Slow(dl.Callback):
        def on_batch_end(self, batch, logs):  # noqa: ARG002
            time.sleep(0.01 * (1 + 3 * (self.trainer._ranks.rank == 0)))

    def one(comm):
        trainer = dl.Trainer(deep(), loss="cross_entropy", seed=0, comm=comm)
        trainer.fit(*(x, y), epochs=100, batch_size=50, max_time=0.5, callbacks=[Slow()], verbose=0)
        return outcome(trainer, trainer.history)

    first, *others = on_ranks(3, one)
    assert others == [first] * 2


@pytest.mark.parametrize("size", [1, 3])
def test_a_checkpoint_goes_on_with_other_ranks_to_the_same_bits(size, tmp_path):
    x, y = data()
    path = tmp_path / "run.safetensors"

    def one(comm, epochs, resume=None):
        trainer = dl.Trainer(deep(), loss="cross_entropy", seed=0, comm=comm)
        callbacks = [dl.ModelCheckpoint(path)]
        history = trainer.fit(
            x, y, epochs=epochs, batch_size=50, callbacks=callbacks, resume=resume, verbose=0
        )
        return outcome(trainer, history)

    whole = one(None, 5)
    path.unlink()
    on_ranks(2, lambda comm: one(comm, 3))
    assert on_ranks(size, lambda comm: one(comm, 5, path)) == [whole] * size


class OwnLoss(dl.MSELoss):
    """A loss that is no kernel's, so that its steps are made in Python."""


def test_a_loss_of_ones_own_is_computed_on_all_ranks():
    x, y = data()
    targets = np.eye(3, dtype=np.float32)[y]

    def one(comm):
        trainer = dl.Trainer(deep(), loss=OwnLoss(), seed=0, comm=comm)
        return outcome(trainer, trainer.fit(x, targets, epochs=2, verbose=0))

    assert on_ranks(2, one) == [one(None)] * 2


@pytest.mark.parametrize("comm", [3, object(), "COMM_WORLD"])
def test_what_is_no_communicator(comm):
    with pytest.raises(TypeError, match="comm must be a communicator such as mpi4py"):
        dl.Trainer(deep(), loss="cross_entropy", comm=comm)


def test_batches_of_a_loop_of_ones_own_begin_from_the_weights_and_draws_of_rank_0():
    x, y = data()

    def learn(comm=None, rank=0):
        model = deep()
        if rank:
            model.flat[:] = 0.01 * rank
        adam = dl.Adam(model.parameters(), lr=0.01)
        trainer = dl.Trainer(model, loss="cross_entropy", optimizer=adam, seed=rank, comm=comm)
        losses = [trainer.train_on_batch(x[i : i + 100], y[i : i + 100]) for i in (0, 100, 200)]
        trainer.fit(x, y, epochs=1, batch_size=100, verbose=0)
        losses.append(trainer.train_on_batch(x[:100], y[:100]))
        return losses, model.flat.tobytes()

    for size in SIZES:
        assert on_ranks(size, lambda comm: learn(comm, comm.rank)) == [learn()] * size


def test_a_batch_that_is_not_as_it_should_be_on_one_rank_is_an_error_on_all():
    x, y = data()

    def learn(comm):
        model = deep()
        trainer = dl.Trainer(model, loss="cross_entropy", optimizer="adam", seed=0, comm=comm)
        trainer.train_on_batch(x, y)
        before = model.flat.copy()
        with pytest.raises(ValueError, match="rank 1"):
            trainer.train_on_batch(x[:, : 7 - comm.rank], y)
        with pytest.raises(ValueError, match="rank 1"):
            trainer.train_on_batch(x, y[::-1] if comm.rank else y)
        np.testing.assert_array_equal(model.flat, before)

    assert on_ranks(2, learn) == [None, None]
