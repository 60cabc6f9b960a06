"""Damage files many times over and load them: python tests/fuzz_files.py [COUNT] [SEED].

Prints how many were refused, what was raised that should not be, and the most memory that one took
beyond four times its size. The suite does a few thousand of them; this is for as many as there is
time for. The memory is that of every tenth file.
"""

import sys
import tempfile
import tracemalloc
import warnings
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from saving.test_damaged_files import attempt, seeds
from support.mutations import SLACK, mutated, peak_of


def main(count=100_000, seed=0):
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(seed)
    raised, refused, most, largest = Counter(), 0, 0, 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = seeds(folder)
        for own in files:
            attempt(folder / own)
        path = folder / "damaged"
        names = list(files)
        for i in range(count):
            # Every tenth file is measured, which makes reading take four times as long.
            if i % 10 == 0:
                tracemalloc.start()
            elif i % 10 == 1:
                tracemalloc.stop()
            changed = mutated(files[names[i % len(names)]], rng)
            path.write_bytes(changed)
            try:
                message, peak = peak_of(attempt, path) if i % 10 == 0 else (attempt(path), 0)
            except Exception as error:  # noqa: BLE001 - all that is not a ValueError
                raised[f"{type(error).__name__}: {error}"[:200]] += 1
                kept = Path(tempfile.gettempdir()) / f"fuzzed-{seed}-{i}"
                kept.write_bytes(changed)
                print("kept", kept, repr(error)[:200], flush=True)
                continue
            refused += bool(message)
            most, largest = max(most, peak - 4 * len(changed)), max(largest, peak)
            if peak > 4 * len(changed) + SLACK:
                print("peak", peak, "of", len(changed), message[-200:], flush=True)
            if (i + 1) % 50_000 == 0:
                print(i + 1, "files,", refused, "refused, largest peak", largest, flush=True)
    print(
        f"{count} files: {refused} refused by a ValueError that names them, {count - refused} read, "
        f"{sum(raised.values())} raised something else {dict(raised)}; the largest peak was "
        f"{largest} bytes, {most} beyond four times the file"
    )
    return 1 if raised else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
