"""Predicts and fits with data, parameters and state between pages of memory that must not be touched.

The kernels' own arrays are the business of `support.guard_pages`, which runs these families too.
"""

import contextlib
import itertools
import math
import mmap
import os
import tempfile

import numpy as np

import dlcore as dl
from dlcore._native.compressed_rows import CompressedRows
from support.guard_pages import DTYPES, GAPS, Place, Region

FEATURES = 5
# Each net by the widths of its tiles and the layers that need most of their own. The last outputs
# are 3, or 1 of "one".
NETS = {
    "linear": lambda: [dl.Linear(FEATURES, 3)],
    "one": lambda: [dl.Linear(FEATURES, 1, bias=False)],
    "odd": lambda: [dl.Linear(FEATURES, 9), dl.Tanh(), dl.Linear(9, 7), dl.ReLU(), dl.Linear(7, 3)],
    "wide": lambda: [
        dl.Linear(FEATURES, 64),
        dl.ReLU(),
        dl.Linear(64, 70),
        dl.GELU(),
        dl.Linear(70, 3),
    ],
    "batch norm": lambda: [
        dl.Linear(FEATURES, 33),
        dl.BatchNorm1d(33),
        dl.SiLU(),
        dl.Linear(33, 3),
    ],
    "layer norm": lambda: [
        dl.LayerNorm(FEATURES),
        dl.Linear(FEATURES, 17),
        dl.LayerNorm(17),
        dl.ELU(),
        dl.Linear(17, 3),
    ],
    "dropout": lambda: [dl.Linear(FEATURES, 31), dl.Dropout(0.4), dl.Softplus(), dl.Linear(31, 3)],
}
# Each loss and the kind of its targets.
LOSSES = {
    "cross entropy": (lambda: dl.CrossEntropyLoss(label_smoothing=0.1), np.int64),
    "weighted": (lambda: dl.CrossEntropyLoss([1.0, 2.0, 0.5], ignore_index=1), np.int8),
    "binary": (lambda: dl.BCEWithLogitsLoss(), np.bool_),
    "squares": (lambda: dl.MSELoss(), None),
    "quantiles": (lambda: dl.QuantileLoss([0.1, 0.5, 0.9]), None),
    "huber": (lambda: dl.HuberLoss(0.4), None),
}
OPTIMIZERS = {
    "SGD": lambda parameters: dl.SGD(parameters, lr=0.01),
    "momentum": lambda parameters: dl.SGD(parameters, lr=0.01, momentum=0.9, nesterov=True),
    "AdamW": lambda parameters: dl.AdamW(parameters, lr=0.01),
}
ROWS = (*range(1, 19), 31, 32, 33, 63, 64, 65, 127, 129, 257, 1023)
# Rows and size of a batch: whole ones, a short last one, one for all and one of a row.
BATCHES = ((32, 16), (33, 8), (17, 17), (7, 1), (131, 64))
SIDES = (Place(behind=True), Place(behind=False))
VIEWS = (Place(step=2), Place(step=-1), Place(False, step=2), Place(gap=4), Place(False, gap=12))


def put(x, place):
    """Copy an array into a region that lives as long as the copy."""
    return place.put(x, Region(x.nbytes * abs(place.step) + GAPS))


@contextlib.contextmanager
def guarded_allocations(place):
    """What NumPy's functions allocate lies in regions too: state, gradients, outputs."""
    kept = {name: getattr(np, name) for name in ("empty", "zeros", "empty_like", "zeros_like")}

    def empty(shape, dtype=float, order="C", **options):
        dtype = np.dtype(dtype)
        if dtype.hasobject or order != "C" or options:
            return kept["empty"](shape, dtype, order, **options)
        shape = tuple(np.atleast_1d(shape).tolist()) if np.ndim(shape) else (int(shape),)
        size = math.prod(shape) * dtype.itemsize
        region = Region(size)
        return np.ndarray(
            shape, dtype, region.bytes, region.high - size if place.behind else region.low
        )

    def zeros(shape, dtype=float, order="C", **options):
        made = empty(shape, dtype, order, **options)
        made[...] = 0
        return made

    def like(make):
        return lambda x, dtype=None: make(np.shape(x), dtype or np.asarray(x).dtype)

    made = {"empty": empty, "zeros": zeros, "empty_like": like(empty), "zeros_like": like(zeros)}
    try:
        vars(np).update(made)
        yield
    finally:
        vars(np).update(kept)


def mapped(x, directory):
    """Map a file that ends with the last element of x: what lies behind is a fault (SIGBUS)."""
    path = os.path.join(directory, f"{len(os.listdir(directory))}.bin")
    before = -x.nbytes % mmap.PAGESIZE
    with open(path, "wb") as file:
        file.write(b"\xa5" * before + x.tobytes() + b"\xa5" * mmap.PAGESIZE)
    shape = (x.size + mmap.PAGESIZE // x.itemsize,)
    longer = np.memmap(path, x.dtype, "r", offset=before, shape=shape)
    os.truncate(path, before + x.nbytes)
    return longer[: x.size].reshape(x.shape)


def model_of(net, dtype, place):
    """Make a network whose parameters and statistics lie in regions."""
    layers = NETS[net]() if isinstance(net, str) else net
    model = dl.Sequential(*layers, dtype=dtype, seed=0)
    model._flat = put(model._flat, place)
    model._buffers = {name: put(value, place) for name, value in model._buffers.items()}
    model._bind()
    return model


def targets(rng, kind, rows, outputs, dtype):
    """Draw targets of a loss: labels, or a number for each output."""
    if kind in (np.int64, np.int8):
        return rng.integers(0, outputs, rows).astype(kind)
    y = rng.normal(size=(rows, outputs)).astype(dtype)
    return (y > 0).astype(dtype) if kind is np.bool_ else y


def inference(note):
    """Predict with every net and number of rows; return the number of calls."""
    calls = 0
    rng = np.random.default_rng(0)
    for dtype, net in itertools.product(DTYPES, NETS):
        for side in SIDES:
            model = model_of(net, dtype, side)
            for rows, place in itertools.product(ROWS, (side, *VIEWS)):
                note(f"{net} of {dtype.__name__}, {rows} rows, {place}")
                x = put(rng.normal(size=(rows, FEATURES)).astype(dtype), place)
                with guarded_allocations(side):
                    model(x)
                calls += 1
    return calls


def fits(note):
    """Fit every net with every loss and optimizer, and evaluate; return the number of fits."""
    calls = 0
    rng = np.random.default_rng(0)
    layouts = itertools.cycle((*SIDES, "mapped", *VIEWS))
    of_batches = itertools.cycle(BATCHES)
    options = itertools.cycle(({}, {"accumulate": 2}, {"clip_grad_norm": 0.1}))
    with tempfile.TemporaryDirectory() as directory:
        for dtype, net, loss, optimizer, side in itertools.product(
            DTYPES, NETS, LOSSES, OPTIMIZERS, SIDES
        ):
            outputs = 1 if net == "one" else 3
            make_loss, kind = LOSSES[loss]
            if outputs == 1 and loss in ("cross entropy", "weighted", "quantiles"):
                continue
            (rows, batch_size), layout, option = next(of_batches), next(layouts), next(options)
            note(
                f"{net} of {dtype.__name__}, {loss}, {optimizer}, {rows} rows in batches of "
                f"{batch_size}, x {layout}, {option}, {side}"
            )
            x = rng.normal(size=(rows, FEATURES)).astype(dtype)
            x = mapped(x, directory) if layout == "mapped" else put(x, layout)
            y = put(targets(rng, kind, rows, outputs, dtype), side)
            weight = put(rng.random(rows), side) if calls % 2 else None
            with guarded_allocations(side):
                model = model_of(net, dtype, side)
                trainer = dl.Trainer(
                    model,
                    loss=make_loss(),
                    optimizer=OPTIMIZERS[optimizer](model.parameters()),
                    seed=0,
                    **option,
                )
                fit = {"sample_weight": weight, "batch_size": batch_size, "verbose": 0}
                trainer.fit(x, y, epochs=2, shuffle=calls % 3 > 0, validation_data=(x, y), **fit)
                trainer.evaluate(x, y)
                trainer.predict(x)
            calls += 1
    return calls


def sparse_rows(note):
    """Predict and fit with sparse rows, in both orders of the first layer's weights."""
    calls = 0
    rng = np.random.default_rng(0)
    nets = ("linear", "one", "odd", "wide", "dropout")
    for dtype, net, side, input_major in itertools.product(DTYPES, nets, SIDES, (False, True)):
        layers = NETS[net]()
        layers[0]._is_input_major = input_major
        model = model_of(layers, dtype, side)
        for rows, index in itertools.product(ROWS, (np.int32, np.int64)):
            note(
                f"{net} of {dtype.__name__}, {rows} rows of {index.__name__}, {input_major}, {side}"
            )
            dense = rng.normal(size=(rows, FEATURES)) * (rng.random((rows, FEATURES)) < 0.5)
            starts = np.append(0, np.cumsum(np.count_nonzero(dense, axis=1)))
            parts = dense[dense != 0].astype(dtype), np.nonzero(dense)[1], starts
            data, indices, indptr = (
                put(part if part.dtype == dtype else part.astype(index), side) for part in parts
            )
            x = CompressedRows(data, indices, indptr, dense.shape)
            with guarded_allocations(side):
                model(x)
            if rows % 16 == 1:
                y = put(targets(rng, None, rows, 1 if net == "one" else 3, dtype), side)
                optimizer = dl.AdamW(model.parameters(), lr=0.01)
                trainer = dl.Trainer(model, loss="mse", optimizer=optimizer, seed=0)
                trainer.fit(x, y, epochs=1, batch_size=rows // 2 + 1, verbose=0)
            calls += 1
    return calls


def tables(note):
    """Predict and fit with tables of categories, small ones and one of which rows wait."""
    calls = 0
    rng = np.random.default_rng(0)
    options = itertools.cycle(({}, {"clip_grad_norm": 0.1}))
    for dtype, width, side, place in itertools.product(DTYPES, (1, 3, 8, 17), SIDES, VIEWS[:2]):
        for rows, optimizer in itertools.product((1, 33), OPTIMIZERS):
            option = next(options)
            note(f"tables of {dtype.__name__}, {width}, {rows} rows, {optimizer}, {option}, {side}")
            x = rng.normal(size=(rows, FEATURES)).astype(dtype)
            x[:, [1, 3]] = rng.integers(150, size=rows)[:, np.newaxis] % [150, 4]
            x[::5, 1] = np.nan
            x, y = put(x, place), put(targets(rng, None, rows, 3, dtype), side)
            embeddings = dl.CategoricalEmbeddings(
                [150, 4], width, columns=[1, 3], in_features=FEATURES, missing="category"
            )
            with guarded_allocations(side):
                model = model_of([embeddings, dl.Linear(3 + 2 * width, 3)], dtype, side)
                model(x)
                own = OPTIMIZERS[optimizer](model.parameters())
                trainer = dl.Trainer(model, loss="mse", optimizer=own, seed=0, **option)
                trainer.fit(x, y, epochs=1, batch_size=2, verbose=0)
            calls += 1
    return calls


FAMILIES = {"inference": inference, "fits": fits, "sparse rows": sparse_rows, "tables": tables}
