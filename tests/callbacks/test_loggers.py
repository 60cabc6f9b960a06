"""Loggers: a line an epoch in files, values for writers, and what a fit that goes on does with them."""

import copy
import csv
import json
import math
import pickle

import numpy as np
import pytest

import dlcore as dl

X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)


def fit(*callbacks, epochs=3, **options):
    model = dl.Sequential(dl.Linear(3, 2), seed=0)
    trainer = dl.Trainer(model, loss="cross_entropy", callbacks=callbacks, seed=0)
    return trainer.fit(X, Y, epochs=epochs, batch_size=8, verbose=0, **options)


def lines(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def objects(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


class Cut(Exception):
    """The machine is gone."""


class CutAfter(dl.Callback):
    """Ends the fit after the loggers have written, before anything is saved."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, epoch, logs):  # noqa: ARG002
        if epoch == self.epoch:
            raise Cut


KINDS = {"csv": (dl.CSVLogger, lines), "json": (dl.JSONLogger, objects)}


@pytest.fixture(params=KINDS)
def logger(request, tmp_path):
    """Return a logger's class, its path and what reads it."""
    kind, read = KINDS[request.param]
    path = tmp_path / "log"
    return (
        kind,
        path,
        lambda: [
            {k: v if v in ("", None) else float(v) for k, v in row.items()} for row in read(path)
        ],
    )


def test_each_epoch_is_a_line(logger):
    kind, path, read = logger
    history = fit(kind(path), validation_split=0.2)
    rows = read()
    assert [row["epoch"] for row in rows] == [0, 1, 2]
    for name, values in history.items():
        assert [row[name] for row in rows] == values  # to the last digit


def test_a_line_is_there_when_its_epoch_ends(logger):
    kind, path, read = logger
    seen = []

    class Looks(dl.Callback):
        def on_epoch_end(self, epoch, logs):  # noqa: ARG002
            seen.append(len(read()))

    fit(kind(path), Looks())
    assert seen == [1, 2, 3]


def test_a_fit_begins_the_file_anew_or_adds_to_it(logger):
    kind, path, read = logger
    fit(kind(path))
    fit(kind(path), epochs=2)
    assert [row["epoch"] for row in read()] == [0, 1]
    fit(kind(path, append=True))
    assert [row["epoch"] for row in read()] == [0, 1, 0, 1, 2]


def test_a_fit_that_goes_on_repeats_no_line(logger, tmp_path):
    kind, path, read = logger
    fit(kind(path), epochs=2)  # another fit, whose lines stay
    checkpoint = dl.ModelCheckpoint(tmp_path / "run")
    with pytest.raises(Cut):
        fit(kind(path, append=True), checkpoint, CutAfter(2), epochs=5)
    assert [row["epoch"] for row in read()] == [0, 1, 0, 1, 2]
    with path.open("a") as file:
        file.write("3,0.4")  # torn by the end of the process
    callbacks = kind(path), dl.ModelCheckpoint(tmp_path / "run")
    history = fit(*callbacks, epochs=5, resume=True)
    rows = read()
    assert [row["epoch"] for row in rows] == [0, 1, 0, 1, 2, 3, 4]
    assert [row["loss"] for row in rows[2:]] == history["loss"]


def test_what_callbacks_add_and_what_some_epochs_lack(logger):
    kind, path, read = logger

    class Adds(dl.Callback):
        def on_epoch_end(self, epoch, logs):
            if epoch:
                logs["half, or more"] = epoch / 2

    history = fit(Adds(), kind(path), validation_split=0.2, validation_freq=2)
    rows = read()
    assert [row.get("half, or more") or None for row in rows] == [None, 0.5, 1.0]
    assert [row["val_loss"] for row in rows if row.get("val_loss")] == history["val_loss"]
    assert [row["loss"] for row in rows] == history["loss"]


def test_values_that_are_no_numbers(logger):
    kind, path, read = logger
    values = iter([math.nan, math.inf, -math.inf])

    class Adds(dl.Callback):
        def on_epoch_end(self, epoch, logs):  # noqa: ARG002
            logs["odd"] = next(values)

    fit(Adds(), kind(path))
    odd = [row["odd"] for row in read()]
    assert odd[0] is None or math.isnan(odd[0])
    assert odd[1:] == [math.inf, -math.inf]
    if kind is dl.JSONLogger:
        json.loads(path.read_text().splitlines()[0], parse_constant=pytest.fail)


def test_numbers_of_numpy_are_written_as_numbers(logger):
    class Own(dl.Callback):
        def on_epoch_end(self, epoch, logs):
            logs["double"], logs["single"] = np.float64(0.1), np.float32(0.5)
            logs["count"] = np.int64(epoch)

    kind, path, read = logger
    fit(Own(), kind(path), epochs=2)
    assert [(r["double"], r["single"], r["count"]) for r in read()] == [
        (0.1, 0.5, 0),
        (0.1, 0.5, 1),
    ]


def test_a_file_that_cannot_be_written_ends_the_fit(logger, tmp_path):
    kind, *_ = logger
    with pytest.raises(OSError, match="gone"):
        fit(kind(tmp_path / "gone" / "log"))


def test_loggers_of_estimators(logger):
    sklearn = pytest.importorskip("dlcore.sklearn")
    kind, path, read = logger
    clf = sklearn.MLPClassifier(
        (4,), max_iter=3, random_state=0, callbacks=[kind(path)], early_stopping=True
    )
    with pytest.warns(UserWarning, match="converged"):
        clf.fit(X, Y)
    assert [row["loss"] for row in read()] == clf.loss_curve_
    assert [row["val_score"] for row in read()] == clf.validation_scores_


class Writer:
    """What TensorBoard's writers have."""

    def __init__(self):
        self.values, self.flushed = [], 0

    def add_scalar(self, name, value, step):
        self.values.append((name, value, step))

    def flush(self):
        self.flushed += 1


def test_a_writer_gets_what_each_epoch_logs():
    writer = Writer()
    history = fit(dl.TensorBoard(writer), validation_split=0.2)
    wanted = [
        (name, history[name][epoch], epoch) for epoch in range(3) for name in ("loss", "val_loss")
    ]
    assert writer.values == wanted
    assert writer.flushed == 3


def test_a_writer_gets_the_loss_of_batches():
    writer = Writer()
    fit(dl.TensorBoard(writer, every_batches=2))
    steps = [step for name, _, step in writer.values if name == "batch_loss"]
    assert steps == [2, 4, 7, 9, 12, 14]  # five batches an epoch


def test_a_folder_is_written_by_tensorboardx(tmp_path):
    pytest.importorskip("tensorboardX")
    board = dl.TensorBoard(tmp_path / "board", every_batches=2)
    fit(board)
    assert [path.name[:6] for path in (tmp_path / "board").iterdir()] == ["events"]
    assert board.writer == tmp_path / "board"
    assert repr(dl.TensorBoard("runs")) == "TensorBoard(writer='runs')"
    data = next((tmp_path / "board").iterdir()).read_bytes()
    assert b"batch_loss" in data
    assert b"loss" in data


def test_what_is_no_writer_is_named():
    with pytest.raises(TypeError, match="writer must have add_scalar"):
        dl.TensorBoard(3)
    with pytest.raises(ValueError, match="every_batches must be a positive integer"):
        dl.TensorBoard(Writer(), every_batches=0)


def test_a_folder_needs_tensorboardx(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "tensorboardX", None)
    with pytest.raises(ImportError, match=r"TensorBoard needs tensorboardX.*\[tensorboard\]"):
        dl.TensorBoard(tmp_path)


@pytest.mark.parametrize("how", [copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))])
def test_loggers_are_copied_and_shown(how, tmp_path):
    path = tmp_path / "log"
    logger = dl.CSVLogger(path, append=True)
    fit(logger)
    fit(how(logger))
    assert len(lines(path)) == 6
    assert repr(dl.CSVLogger("log.csv", append=True)) == "CSVLogger(path='log.csv', append=True)"
