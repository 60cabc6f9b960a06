"""Calls kernels with every array between two pages of memory that must not be touched.

A fault ends the process, so tests run this file in one of its own, which keeps the call that it is
about to make in the file RECORD:

    python -m support.guard_pages ISA FAMILY RECORD [all]

The families "inference" and "fits" are those of `support.guarded_models`.
"""

import ctypes
import faulthandler
import functools
import itertools
import math
import mmap
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

import dlcore
from dlcore._native import dispatch
from support.cases import CASES, DTYPES

GAPS = 64  # bytes: every alignment to every register
FILL = b"\xa5" * GAPS
LENGTHS = range(1026)
# Around the tiles and chunks that work is cut into; the last ones run on two threads.
LONG = (2047, 2048, 2049, 4097, 8191, 8192, 8193, 16_385, 70_001)
# So long that outputs are written past the caches.
STREAMED = 2**23 + 77
STREAMED_KERNELS = ("relu_backward", "softmax")  # of all kernels, where everything is called
# Within a tile or two of the registers, and around the powers of two; the others are tried where
# everything is.
USUAL = frozenset(
    (
        *range(97),
        *range(124, 133),
        *range(252, 261),
        *range(508, 517),
        *range(1020, 1026),
        *LONG,
        STREAMED,
    )
)
# Around the widths of the registers and the largest short row.
WIDTHS = (1, 2, 3, 4, 5, 7, 8, 9, 10, 15, 16, 17, 31, 32, 33)
CLASSES = (*WIDTHS, 37, 63, 64, 65, 66, 79, 80, 81, 127, 128, 129)
ROWS = (1, 2, 3, 5, 8, 15, 16, 17, 33)
LABELS = (np.int64, np.int32, np.int16, np.int8)
RECORD_BYTES = 200


class Region:
    """Whole pages of memory, the page before them and the page behind them out of bounds."""

    def __init__(self, size):
        self.size = max(1, -(-size // mmap.PAGESIZE)) * mmap.PAGESIZE
        self.low = mmap.PAGESIZE
        self.high = self.low + self.size
        self.memory = mmap.mmap(-1, self.high + mmap.PAGESIZE)
        # Arrays lie in what is no memory map to the library, which treats those apart.
        self.bytes = (ctypes.c_char * len(self.memory)).from_buffer(self.memory)
        start = ctypes.addressof(self.bytes)
        libc = ctypes.CDLL(None, use_errno=True)
        for page in (0, self.high):
            no_access = ctypes.c_void_p(start + page), ctypes.c_size_t(mmap.PAGESIZE), 0
            if libc.mprotect(*no_access):
                raise OSError(ctypes.get_errno(), "mprotect")


@dataclass(frozen=True)
class Place:
    """Where data lies: against the page behind it or before it, or some bytes away from that."""

    behind: bool = True
    gap: int = 0
    step: int = 1  # the stride of the last axis, in elements

    def put(self, x, region):
        """Copy an array there."""
        shape, step = x.shape, abs(self.step) if x.ndim else 1
        if step != 1:
            shape = (*shape[:-1], step * shape[-1])
        at = region.high - self.gap - step * x.nbytes if self.behind else region.low + self.gap
        there = np.ndarray(shape, x.dtype, region.bytes, at)
        if step != 1:
            there = there[..., step - 1 if self.behind else 0 :: step]
        if self.step < 0 and x.ndim:
            there = there[..., ::-1]
        there[...] = x
        if self.gap:
            region.memory[self._gap_in(region)] = FILL[: self.gap]
        return there

    def kept(self, region):
        """Return whether the bytes between the data and the page are what they were."""
        return region.memory[self._gap_in(region)] == FILL[: self.gap]

    @functools.cached_property
    def text(self):
        """What a record says of it."""
        return repr(self).encode()

    def nth(self, i):
        """Return the place of a call's array of number i: in one call there are several gaps."""
        return GAPPED[self.behind][self.gap * (2 * i + 1) % GAPS] if self.gap else self

    def _gap_in(self, region):
        at = region.high - self.gap if self.behind else region.low
        return slice(at, at + self.gap)


# By the side, then by the gap. There are a million calls, so that places are made once.
GAPPED = [[Place(behind, gap) for gap in range(GAPS)] for behind in (False, True)]


class GuardedCore:
    """The extension module, every array on its way there copied to a region of its own."""

    def __init__(self, core):
        self._core = core
        self._regions = [Region(0)]
        self._used = 0  # regions, by the call that is made
        self.place = GAPPED[True][0]
        self.calls = 0

    def __getattr__(self, name):
        function = getattr(self._core, name)

        def call(*arguments):
            self._used = 0
            # The layout of the normalizers' own tables is no caller's choice, nor that of copies.
            own = range(2, len(arguments) - 1) if name == "affine_columns" else ()
            if name.startswith("normalize"):
                own = range(len(arguments))
            returned = function(*(self._guarded(a, i in own) for i, a in enumerate(arguments)))
            for i in range(self._used if self.place.gap else 0):
                assert self.place.nth(i).kept(self._regions[i]), "wrote beyond an array"
            self.calls += 1
            return returned

        setattr(self, name, call)
        return call

    def _guarded(self, argument, own=False):
        if isinstance(argument, np.ndarray):
            i, self._used = self._used, self._used + 1
            size = argument.nbytes * abs(self.place.step) + GAPS
            if i == len(self._regions):
                self._regions.append(Region(size))
            elif self._regions[i].size < size:
                self._regions[i] = Region(size)
            place = self.place.nth(i)
            if own and place.step != 1:
                place = replace(place, step=1)
            return place.put(argument, self._regions[i])
        if isinstance(argument, list | tuple):
            guarded = [self._guarded(x, own) for x in argument]
            make = getattr(type(argument), "_make", type(argument))  # of a description by name
            return make(guarded)
        return argument


EVERYWHERE = [
    *itertools.starmap(Place, itertools.product((True, False), range(GAPS))),
    *itertools.starmap(Place, itertools.product((True, False), (0,), (2, -1, -2))),
]


def places(i, shape, everything):
    """Yield where to put the arrays of the call of number i."""
    long = math.prod(shape) > max(LONG)
    if everything and not long:
        yield from EVERYWHERE
        return
    yield GAPPED[True][0]
    yield GAPPED[False][0]
    if long:
        yield GAPPED[True][i % GAPS]
        return
    side, gap = divmod(7 * i, GAPS)
    yield GAPPED[side & 1][gap]
    if i % 4 == 0:
        yield Place(bool(i & 4), step=(2, -1)[i // 8 % 2])


def lengths(case, dtype):
    """Yield inputs of every length."""
    whole = case.inputs((max(LONG),), dtype)
    for n in (*LENGTHS, *LONG):
        yield (n,), {name: x[:n] for name, x in whole.items()}


def rows(case, dtype):
    """Yield rows of classes, labels in integers of any size."""
    ndim = len(next(iter(case.shapes)))
    for i, (n, c) in enumerate(itertools.product(ROWS, CLASSES)):
        if ndim == 1 and n > 1:
            break
        shape = {1: (c,), 2: (n, c), 3: (2, c, n)}[ndim]
        inputs = case.inputs(shape, dtype)
        if "target" in inputs and inputs["target"].dtype.kind == "i":
            label = LABELS[i % len(LABELS)]
            inputs["target"] = inputs["target"].astype(label if c <= 128 else np.int64)
        yield shape, inputs


def tables(case, dtype):
    """Yield tables of rows and columns, in both orders."""
    for i, shape in enumerate(itertools.product((1, 2, 17, 255, 256, 257), CLASSES)):
        (x,) = case.inputs(shape, dtype).values()
        yield shape, {"x": np.asarray(x, order="CF"[i % 2])}


def matrices(case, dtype):
    """Yield the arguments of normalizations."""
    for shape in itertools.product((1, 2, 3, 5, 8, 17, 33, 64, 65, 130, 131), CLASSES):
        yield shape, case.inputs(shape, dtype)


def streamed(case, dtype):
    """Yield inputs of which the outputs are written past the caches."""
    for shape in {
        1: [(STREAMED,)],
        2: [(STREAMED // 10, 10), (STREAMED // 1001, 1001)],
    }.get(len(tuple(case.shapes)[-1]), []):
        yield shape, case.inputs(shape, dtype)


def elementwise_call(case):
    """Return a function of the inputs that gives the kernel an output too, if it takes one."""
    if not case.takes_out:
        return case.run
    kernel = partial(getattr(dlcore, case.name), **case.options)
    return lambda inputs: kernel(**inputs, out=np.empty_like(next(iter(inputs.values()))))


def optimizer_call(case):
    """Return a function that makes a first and a second step, with several parameters."""
    if case.name == "clip_grad_norm":
        return case.run

    def steps(inputs):
        param, grad = inputs.values()
        parts = [slice(None), slice(len(param) // 2), slice(7)]
        stepper = getattr(dlcore, case.name)([param[part].copy() for part in parts], **case.options)
        for _ in range(2):
            stepper.step([grad[part] for part in parts])

    return steps


def columns_call(case):
    """Return a function that calls all that a normalizer can do."""
    if not case.name.endswith("Normalizer"):
        return case.run

    def there_and_back(inputs):
        normalizer = getattr(dlcore, case.name)(**case.options).fit(inputs["x"])
        y = normalizer.transform(inputs["x"], out=np.empty_like(inputs["x"]))
        normalizer.inverse_transform(y.copy(), out=np.empty_like(y))

    return there_and_back


def products_call(case):
    """Return a function that gives the kernel an output too, if it takes one."""
    if not case.takes_out:
        return case.run
    kernel = partial(getattr(dlcore, case.name), **case.options)

    def call(inputs):
        x, weight = inputs["x"], inputs["weight"]
        kernel(**inputs, out=np.empty((len(x), len(weight)), x.dtype))

    return call


def products(case, dtype):
    """Yield the arguments of linear layers: rows, features and outputs around the tiles."""
    for shape in itertools.product((1, 2, 5, 14, 15, 29, 65), (1, 3, 16, 17, 64), CLASSES):
        yield shape, case.inputs(shape, dtype)


# For each family the kinds of its cases, its inputs and how it is called.
FAMILIES = {
    "elementwise": (("activation", "loss"), lengths, elementwise_call),
    "rows": (("softmax", "class loss"), rows, elementwise_call),
    "optimizers": (("optimizer",), lengths, optimizer_call),
    "columns": (("columns",), tables, columns_call),
    "norms": (("norm",), matrices, lambda case: case.run),
    "linear": (("linear",), products, products_call),
}


def call_everything(core, family, record, everything):
    """Call every kernel of a family; return the number of calls."""
    kinds, inputs_of, call_of = FAMILIES[family]
    cases = [case for case in CASES if case.kind in kinds]
    assert cases
    dispatch.core = core = GuardedCore(core)
    for case, dtype in itertools.product(cases, DTYPES):
        call = call_of(case)
        label = f"{case} of {dtype.__name__}, "
        before = core.calls
        drawn = inputs_of(case, dtype)
        if everything or repr(case) in STREAMED_KERNELS:
            drawn = itertools.chain(drawn, streamed(case, dtype))
        for i, (shape, inputs) in enumerate(drawn):
            if not everything and len(shape) == 1 and shape[0] not in USUAL:
                continue
            where = f"{label}{shape}, ".encode()
            for place in places(i, shape, everything):
                core.place = place
                record[:] = (where + place.text).ljust(RECORD_BYTES)
                call(inputs)
        assert core.calls > before, f"{case} was not called"
    return core.calls


def main():
    """Call all that the command line names."""
    from support import guarded_models

    faulthandler.enable()
    isa, family, path, *everything = sys.argv[1:]
    dispatch.core = core = dispatch.load(isa)
    core.set_num_threads(2)
    Path(path).write_bytes(b" " * RECORD_BYTES)
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), RECORD_BYTES) as record:
        if family in guarded_models.FAMILIES:

            def note(text):
                record[:] = text.encode().ljust(RECORD_BYTES)

            calls = guarded_models.FAMILIES[family](note)
        else:
            calls = call_everything(core, family, record, bool(everything))
    print(calls, "calls")


if __name__ == "__main__":
    main()
