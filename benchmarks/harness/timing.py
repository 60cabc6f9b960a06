"""Times of calls, in batches."""

import gc
from itertools import repeat
from time import perf_counter

QUICKER = 5  # times shorter batches


def timed(call, calls):
    """Time a batch: return the mean of its calls, and what the last one returned."""
    call()  # threads awake, caches own
    gc.disable()
    start = perf_counter()
    for _ in repeat(None, calls):
        result = call()
    elapsed = perf_counter() - start
    gc.enable()
    return elapsed / calls, result


def calibrate(call, batch_seconds):
    """Return the time of a call, the best of three short batches, and how many fill a batch."""
    calls = 1
    while (seconds := timed(call, calls)[0]) * calls < batch_seconds / 4:
        calls *= 2
    if seconds < batch_seconds:
        seconds = min(timed(call, calls)[0] for _ in range(3))
    return seconds, max(1, round(batch_seconds / seconds))
