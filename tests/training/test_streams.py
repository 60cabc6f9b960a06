"""Fits, validation and evaluation of batches that an iterable gives."""

import itertools
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest

import dlcore as dl

RNG = np.random.default_rng(0)
N = 64
X, Y = RNG.normal(size=(N, 5)), RNG.integers(0, 3, N)
WEIGHT = RNG.uniform(0.5, 2, N)


class OwnLoss(dl.CrossEntropyLoss):
    """Called in Python, as every class of the user's own is."""


class OwnSGD(dl.SGD):
    """Likewise."""

    def step(self, grads):
        super().step(grads)


def trainer(loss="cross_entropy", make=dl.SGD, **options):
    layers = (dl.Linear(5, 8), dl.BatchNorm1d(8), dl.ReLU(), dl.Linear(8, 3))
    model = dl.Sequential(*layers, dtype=np.float64, seed=0)
    optimizer = make(model.parameters(), 0.1)
    return dl.Trainer(model, loss=loss, optimizer=optimizer, seed=0, **options)


def cut(size, *arrays):
    return [tuple(part(a, slice(i, i + size)) for a in arrays) for i in range(0, N, size)]


def part(array, some):
    return {k: v[some] for k, v in array.items()} if isinstance(array, dict) else array[some]


def fit(t, *data, epochs=2, **options):
    return t.fit(*data, epochs=epochs, verbose=0, **options)


def endless(drawn=None):
    for i in itertools.count():
        if drawn is not None:
            drawn.append(i)
        yield X[:8], Y[:8]


def several():
    return dl.MultiTargetLoss({"kind": "cross_entropy", "size": "mse"}, [2, 1])


TARGETS = {"kind": (Y > 0) * 1.0, "size": X[:, 0].copy()}
TARGETS["kind"][5:20] = np.nan
TARGETS["size"][30:35] = np.nan
OPTIONS = {
    "plain": {},
    "own loss": {"loss": OwnLoss()},
    "own optimizer": {"make": OwnSGD},
    "own optimizer, clipped": {"make": OwnSGD, "clip_grad_norm": 0.01},
    "norm": {"clip_grad_norm": 0.01},
    "value": {"clip_grad_value": 1e-3},
    "schedule": {"schedule": dl.CosineAnnealingLR(20, per="iteration")},
    "several targets": {"loss": several()},
}


@pytest.mark.parametrize("accumulate", [1, 2, 3, 5])
@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("weighted", [False, True])
def test_a_stream_trains_as_the_arrays_do(name, accumulate, weighted):
    """k batches of a stream are k passes: batch normalization sees each of them alone."""
    y = TARGETS if name == "several targets" else Y
    weight = np.where(np.arange(N) // 14 == 1, 0.0, WEIGHT) if weighted else None
    given = () if weight is None else (weight,)
    arrays, stream = (trainer(accumulate=accumulate, **OPTIONS[name]) for _ in range(2))
    options = {} if weight is None else {"sample_weight": weight}
    expected = fit(arrays, X, y, batch_size=7, shuffle=False, log_every=1, **options)
    actual = fit(stream, cut(7, X, y, *given), log_every=1)
    assert actual.batches == expected.batches == [10, 10]
    np.testing.assert_allclose(actual["loss"], expected["loss"], rtol=1e-9)
    for key in ("loss", "iteration") + (() if weighted else ("lr",)):
        np.testing.assert_allclose(actual.iterations[key], expected.iterations[key], rtol=1e-9)
    for key, value in arrays.model.state_dict().items():
        np.testing.assert_allclose(
            stream.model.state_dict()[key], value, rtol=1e-9, atol=1e-12, err_msg=key
        )


@pytest.mark.parametrize("make", [dl.SGD, OwnSGD])
def test_batches_that_grow_amid_an_update(make):
    """The native step is made anew for a larger batch, and the gradients so far are kept."""
    starts = np.cumsum([0, 1, 5, 9, 20, 29])
    batches = [(X[a:b], Y[a:b]) for a, b in pairwise(starts)]
    models = []
    for room in ([], [(X, Y, np.zeros(N)), (X[:64], Y[:64], np.full(N, 1e-300))]):
        t = trainer(accumulate=5 + len(room), make=make)
        t.model.freeze("1")  # what normalizes looks at no batch
        t.fit([*room, *batches], epochs=1, verbose=0)
        models.append(t.model.flat.copy())
    np.testing.assert_allclose(*models, rtol=1e-12)


def test_memory_does_not_grow_with_the_batches_of_an_update():
    def batches(n):
        rng = np.random.default_rng(0)
        for _ in range(n):
            yield rng.normal(size=(1000, 50)).astype(np.float32), rng.integers(0, 2, 1000)

    peaks = []
    for n in (4, 4, 80):
        t = dl.Trainer(dl.Sequential(dl.Linear(50, 2), seed=0), loss="cross_entropy", accumulate=n)
        tracemalloc.start()
        t.fit(batches(n), epochs=1, verbose=0)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < peaks[1] + 100_000  # a batch has 200,000 bytes


# ---- the length of an epoch


def test_an_epoch_of_an_endless_stream_has_so_many_steps():
    drawn = []
    history = fit(trainer(), endless(drawn), epochs=3, steps_per_epoch=10)
    assert history.batches == [10, 10, 10]
    assert len(drawn) == 30


@pytest.mark.parametrize("accumulate", [1, 4])
def test_an_epoch_goes_on_where_the_one_before_ended(accumulate):
    seen = []

    class Batches:
        def __iter__(self):
            for i, batch in enumerate(cut(16, X, Y)):
                seen.append(i)
                yield batch

    history = fit(trainer(accumulate=accumulate), Batches(), epochs=3, steps_per_epoch=3)
    assert history.batches == [3, 3, 3]
    assert seen == [0, 1, 2, 3, 0, 1, 2, 3, 0]


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (lambda: (endless(),), {}, "x is a generator, which gives its batches only once, for 2"),
        (lambda: (zip([X], [Y], strict=True),), {}, "x is a zip, .* or steps_per_epoch="),
        (lambda: ([],), {"steps_per_epoch": 2}, "x ended after 0 of 2 batches"),
        (lambda: (X, Y), {"steps_per_epoch": 2}, "steps_per_epoch is for an iterable of batches"),
        (lambda: (endless(),), {"steps_per_epoch": 0}, "steps_per_epoch must be a positive int"),
        (
            lambda: (X, Y),
            {"validation_data": endless()},
            "validation_data is a generator, .*_steps=",
        ),
        (lambda: (X, Y), {"validation_data": X}, "validation_data must be"),
        (
            lambda: (X, Y),
            {"validation_data": (X, Y), "validation_steps": 2},
            "validation_steps is for",
        ),
        (
            lambda: (X, Y),
            {"validation_data": [(X, Y), (X[:, :3], Y)]},
            "validation batch 2: x must",
        ),
    ],
)
def test_what_cannot_be_gone_through_is_said_before_the_first_epoch(data, options, message):
    t = trainer()
    before = t.model.flat.copy()
    with pytest.raises(ValueError, match=message):
        fit(t, *data(), **options)
    if "batch 2" not in message:
        np.testing.assert_array_equal(t.model.flat, before)


def test_a_stream_that_ends_amid_an_epoch():
    t = trainer()
    with pytest.raises(ValueError, match="x ended after 2 of 3 batches of an epoch"):
        fit(t, itertools.islice(endless(), 5), epochs=3, steps_per_epoch=3)
    assert t.history.batches == [3]


def test_an_object_of_numbered_items_is_gone_through():
    class Numbered:
        """As those that Keras takes: no __iter__, and no IndexError at its end."""

        def __len__(self):
            return 4

        def __getitem__(self, i):
            return X[16 * i : 16 * i + 16], Y[16 * i : 16 * i + 16]

    expected = fit(trainer(), cut(16, X, Y))
    assert fit(trainer(), Numbered()) == expected
    assert trainer().evaluate(Numbered()) == pytest.approx(trainer().evaluate(X, Y))
    np.testing.assert_allclose(trainer().predict(Numbered()), trainer().predict(X), rtol=1e-12)


# ---- weights


def test_batches_of_weight_0_are_passed_over():
    batches = cut(16, X, Y, WEIGHT)
    empty = (np.full((16, 5), np.nan), Y[:16], np.zeros(16))
    plain, padded = trainer(), trainer()
    expected = fit(plain, batches)
    actual = fit(padded, [empty, *batches[:2], empty, *batches[2:]])
    assert actual["loss"] == pytest.approx(expected["loss"])
    assert actual.batches == [6, 6]
    np.testing.assert_allclose(padded.model.flat, plain.model.flat, rtol=1e-12)
    with pytest.raises(ValueError, match="no row of epoch 1 counts"):
        fit(trainer(), [empty])


def test_class_weights_where_a_batch_lacks_a_class():
    y = np.sort(Y)
    weights = {0: 0.0, 1: 2.0}
    arrays, stream = trainer(), trainer()
    expected = fit(arrays, X, y, batch_size=4, shuffle=False, class_weight=weights)
    actual = fit(stream, cut(4, X, y), class_weight=weights)
    assert actual["loss"] == pytest.approx(expected["loss"])
    np.testing.assert_allclose(stream.model.flat, arrays.model.flat, rtol=1e-10)


# ---- validation, evaluation, prediction

METRICS = ["accuracy", "f1", "balanced_accuracy", "top_2_accuracy"]


@pytest.mark.parametrize("as_batches", [list, tuple, lambda batches: batches[:1]])
def test_validation_by_batches(as_batches):
    batches = as_batches(cut(30, X, Y, WEIGHT))
    joined = tuple(np.concatenate(column) for column in zip(*batches, strict=True))
    expected = fit(trainer(metrics=METRICS), X, Y, validation_data=joined)
    actual = fit(trainer(metrics=METRICS), X, Y, validation_data=batches)
    for name, values in expected.items():
        assert actual[name] == pytest.approx(values), name


def test_validation_on_the_next_batches_of_an_endless_stream():
    history = fit(trainer(), X, Y, validation_data=endless(), validation_steps=2)
    assert len(history["val_loss"]) == 2


def test_evaluation_of_batches():
    t = trainer(metrics=METRICS)
    assert t.evaluate(cut(7, X, Y, WEIGHT)) == pytest.approx(t.evaluate(X, Y, WEIGHT))
    assert t.evaluate(endless(), steps=2) == pytest.approx(t.evaluate(X[:8], Y[:8]))
    for bad, error in (((X,), TypeError), (([],), ValueError), ((X, None, WEIGHT), ValueError)):
        with pytest.raises(error):
            t.evaluate(*bad)
    with pytest.raises(ValueError, match="steps is for an iterable"):
        t.evaluate(X, Y, steps=3)
    with pytest.raises(ValueError, match="no row of the data to score counts"):
        t.evaluate([(X, Y, np.zeros(N))])


def test_prediction_of_batches():
    t = trainer()
    expected = t.predict(X)
    for batches in (cut(7, X, Y), [x for x, _ in cut(7, X, Y)], (x for x, _ in cut(7, X, Y))):
        np.testing.assert_allclose(t.predict(batches), expected, rtol=1e-12)
    with pytest.raises(TypeError, match="batch 1: x must be an array"):
        t.predict([[1.0] * 5])
    with pytest.raises(ValueError, match="no batches"):
        t.predict([])


def test_probabilities():
    np.testing.assert_allclose(
        trainer().predict_proba(X), dl.softmax(trainer().predict(X)), rtol=1e-12
    )
    yes = trainer("bce_with_logits")
    np.testing.assert_allclose(yes.predict_proba(X), dl.sigmoid(yes.predict(X)), rtol=1e-12)
    with pytest.raises(ValueError, match="predict_proba needs a loss for classes, not MSELoss"):
        trainer("mse").predict_proba(X)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_streams_of_frames(library):
    frames = pytest.importorskip(library)
    batches = [(frames.DataFrame(x), frames.Series(y)) for x, y in cut(16, X, Y)]
    assert fit(trainer(), batches) == fit(trainer(), cut(16, X, Y))
    single = [(frames.DataFrame(x.astype(np.float32)), y) for x, y in cut(16, X, Y)]
    with pytest.raises(TypeError, match=r"batch 1: x is float32, the model float64: pass .*x"):
        fit(trainer(), single)
    assert trainer().evaluate(batches) == pytest.approx(trainer().evaluate(X, Y))
