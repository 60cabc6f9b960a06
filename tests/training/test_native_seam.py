"""The seam between Python and the native network: what native objects keep, and what they refuse."""

import gc
import threading
from typing import NamedTuple

import numpy as np
import pytest

import dlcore as dl
from dlcore._native import dispatch
from dlcore._native.specs import (
    ActivationSpec,
    BatchNormSpec,
    CrossEntropySpec,
    DropoutSpec,
    ElementwiseLossSpec,
    EpochSpec,
    LayerNormSpec,
    LinearSpec,
    ParameterSpec,
    SGDSpec,
    SGDState,
    UpdateSpec,
)
from dlcore.nn._inference import Inference, describe

IN, HIDDEN, OUT = 5, 40, 3
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
CROSS_ENTROPY = CrossEntropySpec(OUT, True, None, -100, 0.0)


def rng():
    return np.random.default_rng(0)


def network(dtype=np.float32, hidden=HIDDEN):
    layers = (dl.Linear(IN, hidden), dl.BatchNorm1d(hidden), dl.ReLU(), dl.Dropout(0.2))
    return dl.Sequential(*layers, dl.Linear(hidden, OUT), dtype=dtype, seed=0)


def stir():
    """Let go of what is not held, and write to new memory where it was."""
    gc.collect()
    for size in (IN * HIDDEN, HIDDEN, HIDDEN * OUT, OUT, 4 * HIDDEN, IN * HIDDEN * 2):
        _ = [np.full(size, np.nan, dtype) for dtype in (np.float32, np.float64) for _ in range(50)]


def linear(dtype=np.float32, **changed):
    weight = rng().normal(size=(OUT, IN)).astype(dtype)
    grads = {"weight_grad": np.zeros_like(weight), "bias_grad": np.zeros(OUT, dtype)}
    return LinearSpec(IN, OUT, weight, np.zeros(OUT, dtype), **grads)._replace(**changed)


def epoch(layer, dtype=np.float32, rows=64, batch_size=16, **changed):
    """One epoch of a single linear layer, learning the classes 0 to 2."""
    batches = -(-rows // batch_size)
    update = UpdateSpec(
        optimizer=(SGDSpec(0.1, 0.9, 0.0, 0.0, False, False, 0.0, 0.0, True),),
        parameters=tuple(
            ParameterSpec(0, name, 0, SGDState(np.zeros_like(array)), None)
            for name, array in (("weight", layer.weight), ("bias", layer.bias))
        ),
        max_norm=0.0,
        clip_value=0.0,
        average_decay=0.0,
    )
    own = {name: changed.pop(name) for name in update._fields if name in changed}
    spec = EpochSpec(
        x=rng().normal(size=(rows, IN)).astype(dtype),
        y=np.arange(rows) % OUT,
        weight=None,
        order=np.arange(rows),
        offsets=np.append(np.arange(0, rows, batch_size), rows),
        normalizers=np.full(batches, float(batch_size)),
        accumulation_weights=np.ones(batches),
        loss_factors=None,
        accumulate=1,
        ends_update=True,
        gradient_scale=1.0,
        key=0,
        update=update._replace(**own),
        steps=(0,),
        learning_rates=None,
        outputs=None,
        losses=np.zeros(batches),
        squared_norms=None,
        seconds=60.0,
        between=lambda _: None,
    )
    return spec._replace(**changed)


def step(layers, dtype=np.float32, loss=CROSS_ENTROPY):
    return dispatch.core.TrainingStep(dtype == np.float64, tuple(layers), 16, loss, False)


@DTYPES
@pytest.mark.parametrize("rows", [3, 200])
def test_a_native_network_keeps_its_parameters(dtype, rows):
    x = rng().normal(size=(rows, IN)).astype(dtype)
    model = network(dtype)
    expected = model(x)
    native = Inference(model.layers, model.dtype, IN).try_call
    del model
    stir()
    np.testing.assert_array_equal(native(x), expected)


@DTYPES
def test_a_native_step_keeps_its_parameters_and_gradients(dtype):
    outputs = []
    for let_go in (False, True):
        model = network(dtype)
        grads = model._split(np.zeros_like(model.flat))
        native = step(describe(model.layers, IN, (), grads), dtype)
        kept = (model, grads)
        if let_go:
            del model, grads, kept
            stir()
        x, y = rng().normal(size=(16, IN)).astype(dtype), np.zeros((16, OUT), dtype)
        native.forward(x, np.arange(16), y, 1)
        native.backward(np.ones_like(y))
        outputs.append(y)
    np.testing.assert_array_equal(*outputs)


@DTYPES
@pytest.mark.parametrize("rows", [64, 256], ids=["as they lie", "packed"])
def test_an_epoch_keeps_its_arrays(dtype, rows):
    # `between` runs while C++ holds the addresses of all that the description held.
    results = []
    for let_go in (False, True):
        layer = linear(dtype)
        native = step([layer], dtype)
        held = []

        def between(_, held=held, let_go=let_go):
            if let_go:
                held.clear()
                stir()

        held.append(epoch(layer, dtype, rows, seconds=0.0, between=between))
        losses = held[0].losses
        assert native.run(held[0] if not let_go else held.pop()) == ""
        assert native.updates == native.batches == rows // 16
        results.append((layer.weight.tobytes(), layer.bias.tobytes(), losses.tobytes()))
    assert results[0] == results[1]


def test_an_exception_between_batches_gives_the_weights_back():
    layer = linear()
    before = layer.weight.copy()

    def between(batches):
        if batches == 3:
            raise KeyError("enough")

    native = step([layer])
    with pytest.raises(KeyError, match="enough"):
        native.run(epoch(layer, rows=256, seconds=0.0, between=between))
    assert (native.batches, native.updates) == (3, 3)
    other = linear()
    assert step([other]).run(epoch(other, rows=48)) == ""
    assert not np.array_equal(layer.weight, before)
    np.testing.assert_allclose(layer.weight, other.weight, rtol=1e-4, atol=1e-5)


def test_a_field_that_is_missing_or_unknown_raises():
    with pytest.raises(TypeError, match="out_features"):
        LinearSpec(IN)
    with pytest.raises(TypeError, match="steepness"):
        LinearSpec(IN, OUT, np.zeros((OUT, IN)), None, steepness=1.0)

    given = linear()._asdict()
    more = NamedTuple("LinearSpec", [(name, object) for name in (*given, "steepness")])
    with pytest.raises(TypeError, match="LinearSpec has fields that the native code does not know"):
        dispatch.core.Network(False, (more(*given.values(), 0),))
    fewer = NamedTuple("LinearSpec", [("in_features", int), ("out_features", int)])  # noqa: UP014
    with pytest.raises(AttributeError, match="LinearSpec has no field weight"):
        dispatch.core.Network(False, (fewer(IN, OUT),))


@pytest.mark.parametrize(
    "layer", [linear()[:], object(), EpochSpec], ids=["tuple", "object", "class"]
)
def test_a_description_of_another_class_raises(layer):
    with pytest.raises(TypeError, match="expected ActivationSpec"):
        dispatch.core.Network(False, (layer,))


@pytest.mark.parametrize(
    "layer",
    [
        linear(np.float64),
        linear(weight=np.zeros((OUT, IN + 1), np.float32)),
        linear(weight=np.zeros((IN, OUT), np.float32).T),
        linear(weight=None),
        linear(weight=[[0.0] * IN] * OUT),
        linear(bias=np.zeros(OUT + 1, np.float32)),
        linear(in_features="5"),
        linear(max_norm="1"),
        linear(weight_grad=np.broadcast_to(np.float32(0), (OUT, IN))),
        LayerNormSpec(IN, np.zeros(IN), None, 1e-5),
        DropoutSpec(IN, "0.5", 0),
        ActivationSpec(IN, "elu"),
        BatchNormSpec(IN, None, None, 1e-5, 0.1, None, None, np.zeros((), np.int32), False),
        BatchNormSpec(IN, None, None, 1e-5, 0.1, None, None, np.zeros((), np.int64), True),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_field_of_another_type_raises(layer):
    with pytest.raises(TypeError, match="must be"):
        dispatch.core.Network(False, (layer,))


@pytest.mark.parametrize("activation", ["step", "softmax", ""])
def test_an_unknown_activation_raises(activation):
    with pytest.raises(ValueError, match="kernel must be an activation"):
        dispatch.core.Network(False, (ActivationSpec(IN, activation),))


@pytest.mark.parametrize(
    "loss",
    [
        ElementwiseLossSpec(OUT, "huber_loss"),
        ElementwiseLossSpec(OUT, "mse_loss", 1.0),
        ElementwiseLossSpec(OUT, "quantile_loss"),
        ElementwiseLossSpec(OUT, "quantile_loss", columns=np.zeros(OUT + 1, np.float32)),
        CROSS_ENTROPY._replace(weight=np.ones(OUT)),
        ("cross_entropy", 3),
    ],
    ids=str,
)
def test_a_loss_that_is_not_as_it_must_be_raises(loss):
    with pytest.raises(TypeError, match=r"must be|expected"):
        step([linear()], loss=loss)


@pytest.mark.parametrize(
    "changed",
    [
        {"x": np.zeros((64, IN))},
        {"x": np.zeros((64, IN + 1), np.float32)},
        {"y": np.zeros(64)},
        {"weight": np.ones(63)},
        {"order": np.arange(64, dtype=np.int32)},
        {"offsets": np.array([0, 17, 33, 49, 64])},  # more rows than the step has room for
        {"offsets": np.array([0, 16, 8, 48, 64])},
        {"offsets": np.array([0, 16, 32, 48, 63])},
        {"offsets": np.array([1, 16, 32, 48, 64])},
        {"offsets": np.empty(0, np.int64)},
        {"normalizers": np.ones(3)},
        {"accumulation_weights": np.ones(5)},
        {"learning_rates": np.ones((3, 1))},
        {"losses": np.zeros(4, np.float32)},
        {"outputs": np.zeros((64, OUT + 1), np.float32)},
        {"key": 0.5},
        {"seconds": "now"},
        {"parameters": (ParameterSpec(1, "weight", 0, None, None),)},
        {"parameters": (ParameterSpec(0, "scale", 0, None, None),)},
        {"parameters": (ParameterSpec(0, "bias", 1, None, None),)},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_an_epoch_that_does_not_fit_raises_and_changes_nothing(changed):
    layer = linear()
    before = layer.weight.copy()
    native = step([layer])
    with pytest.raises(TypeError, match="must be"):
        native.run(epoch(layer, **changed))
    assert (native.batches, native.updates) == (0, 0)
    np.testing.assert_array_equal(layer.weight, before)


@DTYPES
def test_threads_predict_with_one_model_at_once(dtype):
    # Each call packs the weights as they are then: calls at once have panels of their own.
    model = network(dtype, 256)
    batches = [rng().normal(size=(rows, IN)).astype(dtype) for rows in (1, 100, 300)]
    expected = [model(x).tobytes() for x in batches]
    found = []

    def predict():
        found.extend([model(x).tobytes() for x in batches] for _ in range(40))

    threads = [threading.Thread(target=predict) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 160


def test_scale_and_shift_of_a_batch_norm_learn_while_its_statistics_are_frozen():
    model = network()
    model.freeze("1.running_mean")
    before = model[1].weight.copy()
    x, y = rng().normal(size=(64, IN)).astype(np.float32), np.arange(64) % OUT
    dl.Trainer(model, loss="cross_entropy", optimizer="sgd", seed=0).fit(x, y, epochs=2)
    assert not np.array_equal(model[1].weight, before)
