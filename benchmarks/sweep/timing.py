"""Times of calls, in interleaved rounds."""

import gc
import statistics
from itertools import repeat
from time import perf_counter

import dlcore

BATCH_SECONDS = 0.004


def seconds(call, calls):
    """Time a batch: the mean of its calls."""
    call()  # threads awake, caches own
    gc.disable()
    start = perf_counter()
    for _ in repeat(None, calls):
        call()
    elapsed = perf_counter() - start
    gc.enable()
    return elapsed / calls


def calls_of_a_batch(call, batch_seconds):
    """Return how many calls fill a batch."""
    calls = 1
    while (time := seconds(call, calls)) * calls < batch_seconds / 4:
        calls *= 4
    return max(1, round(batch_seconds / time))


def measure(variants, rounds, batch_seconds=BATCH_SECONDS):
    """Return the median time of a call, for each (anything, threads) of a dict of calls."""
    batches = {}
    for key, call in variants.items():
        with dlcore.num_threads(key[-1]):
            batches[key] = calls_of_a_batch(call, batch_seconds)
    times = {key: [] for key in variants}
    turns = list(variants)
    for _ in range(rounds):
        for key in turns:
            with dlcore.num_threads(key[-1]):
                times[key].append(seconds(variants[key], batches[key]))
        turns = turns[1:] + turns[:1]
    return {key: statistics.median(batch) for key, batch in times.items()}
