"""What fuzz targets have in common: choices made of bytes, and what counts as a fault.

A target is a function of `Choices`. It calls what users call with arguments that the choices make
strange. A call returns, or raises one of `DOCUMENTED` with a message that names an argument, and
then no array has changed. Everything else is a `Fault`.
"""

import numpy as np

# IndexError is for labels out of range, FloatingPointError for fits that diverge, MemoryError for
# sizes that nothing has room for.
DOCUMENTED = (TypeError, ValueError, IndexError, FloatingPointError, MemoryError)


class Fault(Exception):
    """What a target must not see."""


class Choices:
    """Choices made of bytes, in order; when these are used up, each is the first possible one."""

    def __init__(self, data):
        self._data, self._at = bytes(data), 0

    def below(self, n):
        """Return an integer from 0 to below n."""
        two = self._data[self._at : self._at + 2]
        self._at += 2
        return int.from_bytes(two, "little") % n

    def pick(self, options):
        """Return one of a sequence."""
        return options[self.below(len(options))]

    def seldom(self):
        """Whether something happens that does so once in four times."""
        return self.below(4) == 3

    def rng(self):
        """Return a generator of numbers that no choice is made by."""
        return np.random.default_rng(self.below(1 << 16))


def contents(array):
    """Return what must not change of an array: its bytes, and how they are read."""
    plain = np.asarray(array)  # without a mask
    return array.dtype, array.shape, array.strides, plain.tobytes()


def _names(error, name):
    """Whether a message has the name of an argument, or a word of it, such as of num_features."""
    words = [word.rstrip("s") for word in name.split("_") if len(word) > 3] or [name]
    return any(word.lower() in str(error).lower() for word in words)


def judge(call, names, arrays=(), results=()):
    """Call, and return what came back, or None after an error of the kind that is documented.

    Parameters
    ----------
    call : callable
        Without arguments.
    names : iterable of str
        Names of arguments, of which the message of an error has at least one.
    arrays : iterable of ndarray
        What never changes.
    results : iterable of ndarray
        What changes only if the call returns.
    """
    arrays, results = list(arrays), list(results)
    before = [contents(a) for a in arrays], [contents(r) for r in results]
    error, value = None, None
    try:
        value = call()
    except DOCUMENTED as raised:
        error = raised
    except Exception as raised:
        raise Fault(f"{type(raised).__name__}: {raised}") from raised
    if before[0] != [contents(a) for a in arrays]:
        raise Fault(f"an argument changed, and then {error!r}") from error
    if error is None:
        return value
    if before[1] != [contents(r) for r in results]:
        raise Fault(f"a result changed in spite of {error!r}") from error
    has_no_name = isinstance(error, MemoryError | FloatingPointError)
    has_no_name |= "Maximum allowed dimension" in str(error)
    if not has_no_name and not any(_names(error, n) for n in names):
        raise Fault(f"no argument is named: {error!r}") from error
    return None
