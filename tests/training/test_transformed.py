"""`transform` and `mix` in fit: changed batches, made in other threads, the same ones each time."""

import threading

import numpy as np
import pytest

import dlcore as dl


def data(n=203, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 6)).astype(np.float32)
    return x, (x[:, 0] * x[:, 1] > 0).astype(np.int64)


def trainer(loss="cross_entropy", outputs=2, **options):
    model = dl.Sequential(dl.Linear(6, 16), dl.ReLU(), dl.Linear(16, outputs), seed=0)
    return dl.Trainer(model, loss=loss, seed=0, **options)


def noise(batch, rng):
    return batch + rng.normal(0, 0.1, batch.shape).astype(batch.dtype)


def fitted(**options):
    x, y = data()
    own = trainer(accumulate=options.pop("accumulate", 1))
    own.fit(x, y, epochs=3, batch_size=16, verbose=0, **options)
    return own.model.flat


def test_what_changes_nothing_gives_the_fit_without_it_bit_for_bit():
    plain = fitted()
    assert np.array_equal(fitted(transform=lambda batch, _: batch), plain)
    weights = np.random.default_rng(1).random(203)
    weighted = fitted(sample_weight=weights, class_weight={1: 3.0}, accumulate=3)
    unchanged = {"transform": lambda batch, _: batch}
    again = fitted(sample_weight=weights, class_weight={1: 3.0}, accumulate=3, **unchanged)
    assert np.array_equal(again, weighted)


def test_dropout_draws_the_same_as_without_it():
    x, y = data()
    flats = []
    for options in ({}, {"transform": lambda batch, _: batch}):
        model = dl.Sequential(dl.Linear(6, 32), dl.Dropout(0.5), dl.Linear(32, 2), seed=0)
        own = dl.Trainer(model, loss="cross_entropy", seed=0)
        own.fit(x, y, epochs=2, batch_size=8, verbose=0, **options)
        flats.append(model.flat)
    assert np.array_equal(*flats)


def test_a_seed_draws_the_same_changes_for_any_number_of_threads():
    with dl.num_threads(1):
        one = fitted(transform=noise)
    with dl.num_threads(2):
        two = fitted(transform=noise)
    assert np.array_equal(one, two)
    assert not np.array_equal(one, fitted())


def test_every_batch_is_seen_once_an_epoch_as_a_copy_in_another_thread():
    x, y = data()
    kept, seen, threads = x.copy(), [], set()

    def spy(batch, rng):
        seen.append(batch.copy())
        threads.add(threading.get_ident())
        batch[...] = 0
        return batch

    trainer().fit(x, y, epochs=2, batch_size=16, transform=spy, verbose=0)
    assert np.array_equal(x, kept)
    assert threading.get_ident() not in threads
    assert len(seen) == 2 * 13
    rows = np.concatenate(seen)
    assert sorted(map(tuple, rows)) == sorted(map(tuple, np.concatenate([x, x])))


def test_batches_draw_differently_and_so_do_epochs():
    x, y = data(64)
    drawn = []

    def draw(batch, rng):
        drawn.append(rng.random())
        return batch

    trainer().fit(x, y, epochs=3, batch_size=16, transform=draw, verbose=0)
    assert len(set(drawn)) == 3 * 4


def test_the_loss_is_of_the_changed_rows():
    x, y = data(64)
    own = trainer(optimizer="sgd", metrics=["accuracy"])
    own.optimizer.lr = 0.0
    flipped = own.evaluate(-x, y)
    history = own.fit(x, y, epochs=1, batch_size=64, transform=lambda b, _: -b, verbose=0)
    assert history["loss"][0] == pytest.approx(flipped["loss"], rel=1e-6)
    assert history["accuracy"][0] == flipped["accuracy"]


def test_mix_gets_probabilities_and_gives_the_loss_of_them():
    x, y = data(64)
    own = trainer(optimizer="sgd")
    own.optimizer.lr = 0.0
    half = np.full((64, 2), 0.5, np.float32)

    def mix(batch, target, rng):
        assert target.dtype == np.float32
        assert np.array_equal(target, np.eye(2)[target.argmax(1)])
        return batch, np.full_like(target, 0.5)

    expected = own.evaluate(x, half)["loss"]
    history = own.fit(x, y, epochs=1, batch_size=64, mix=mix, verbose=0)
    assert history["loss"][0] == pytest.approx(expected, rel=1e-6)


def test_mix_of_values():
    x, _ = data(64)
    own = trainer("mse", 1)
    own.optimizer.lr = 0.01
    history = own.fit(x, x[:, :1].copy(), epochs=30, batch_size=16, mix=dl.mixup(0.4), verbose=0)
    assert history["loss"][-1] < 0.5 * history["loss"][0]


def test_an_error_in_a_transform_ends_the_fit_and_leaves_the_trainer_usable():
    x, y = data()
    own = trainer()

    def fails(batch, rng):
        raise ZeroDivisionError("in the transform")

    with pytest.raises(ZeroDivisionError, match="in the transform"):
        own.fit(x, y, epochs=1, transform=fails, verbose=0)
    own.fit(x, y, epochs=1, verbose=0)
    for thread in threading.enumerate():  # a fit that fails does not wait for what is under way
        if thread.name.startswith("dlcore-transform"):
            thread.join(timeout=10)
            assert not thread.is_alive()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda b, _: b[:-1], r"transform must return x as float32 of shape \(16, 6\)"),
        (lambda b, _: b.astype(np.float64), "got float64 of shape"),
        (lambda *_: None, "got NoneType"),
    ],
)
def test_wrong_results(wrong, message):
    x, y = data(32)
    own = trainer()
    before = own.model.flat.copy()
    with pytest.raises(ValueError, match=message):
        own.fit(x, y, epochs=1, batch_size=16, transform=wrong, verbose=0)
    assert np.array_equal(own.model.flat, before)


def test_wrong_results_of_mix():
    x, y = data(32)
    with pytest.raises(ValueError, match=r"mix must return \(x, y\), got ndarray"):
        trainer().fit(x, y, epochs=1, mix=lambda x, *_: x, verbose=0)
    with pytest.raises(ValueError, match="mix must return y as float32"):
        trainer().fit(x, y, epochs=1, mix=lambda x, y, _: (x, y[:, :1]), verbose=0)


def test_combinations_that_make_no_sense():
    x, y = data(32)
    with pytest.raises(TypeError, match=r"transform must be a function of \(batch, rng\), not 3"):
        trainer().fit(x, y, epochs=1, transform=3, verbose=0)
    with pytest.raises(ValueError, match="transform and mix need x and y as arrays"):
        trainer().fit([(x, y)], epochs=1, transform=noise, verbose=0)
    with pytest.raises(ValueError, match="those of FocalLoss cannot"):
        trainer(dl.FocalLoss()).fit(x, y, epochs=1, mix=dl.mixup(), verbose=0)
    ignored = np.where(np.arange(32) < 3, -100, y)
    with pytest.raises(ValueError, match="but some are ignored"):
        trainer().fit(x, ignored, epochs=1, mix=dl.mixup(), verbose=0)


def test_a_mapped_file_gives_the_fit_of_its_array(tmp_path, monkeypatch):
    x, y = data()
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    monkeypatch.setattr("dlcore.training._dataset.MappedFile.least", 1)  # give its pages back
    flats = []
    for rows in (x, mapped):
        own = trainer()
        own.fit(rows, y, epochs=2, batch_size=16, transform=noise, verbose=0)
        flats.append(own.model.flat)
    assert np.array_equal(*flats)
