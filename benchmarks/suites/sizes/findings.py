"""What is wrong with the figures of a sweep: lines of text, computed from its records."""

from collections import defaultdict
from itertools import pairwise

from benchmarks.harness.machine import caches

SLOWER = 1.05  # what two threads may cost beyond one: noise
RISE = 1.5  # of the time of an element, from one size to the next
EDGE = 1.3  # of the time of a call, for one element more
DOUBLE = 2.3  # float64 to float32
NEW = 2.0  # without out= to with it
STRIDED = 1.3  # to copying first


def human(n):
    """Write a number of elements; those that differ by one differ here."""
    return f"{n / 10**6:.3g}M" if n >= 10**6 else str(n)


def series(records):
    """Return {(kernel, dtype, way, threads): {n: seconds}}."""
    table = defaultdict(dict)
    for r in records:
        table[r["kernel"], r["dtype"], r["way"], r["threads"]][r["n"]] = r["median"]
    return {key: dict(sorted(times.items())) for key, times in table.items()}


def compared(table, of, to, limit):
    """Yield where the times of one way are more than `limit` times those of another.

    of, to: their (dtype, way, threads), None where any will do, the same in both.
    """
    for key, times in table.items():
        if key[2] == "copied" or any(
            part not in (None, have) for part, have in zip(of, key[1:], strict=True)
        ):
            continue
        other = table.get((key[0], *(b or a for a, b in zip(key[1:], to, strict=True))), {})
        ratios = {n: times[n] / other[n] for n in times if n in other}
        ratios = {n: ratio for n, ratio in ratios.items() if ratio > limit}
        if len(ratios) > 4:
            low, high = min(ratios.values()), max(ratios.values())
            sizes = f"{len(ratios)} sizes, {human(min(ratios))} to {human(max(ratios))}"
            yield f"{label(key)}: {low:.2f} to {high:.2f} at {sizes}"
        elif ratios:
            yield f"{label(key)}: " + ", ".join(f"{r:.2f} at {human(n)}" for n, r in ratios.items())


def label(key):
    """Name a series."""
    kernel, dtype, way, threads = key
    return f"{kernel}, {dtype}, {way}, {threads} thread{'s' if threads > 1 else ''}"


def speedups(table):
    """Two threads at the largest size."""
    for key, times in table.items():
        one = table.get((*key[:3], 1))
        if key[3] == 2 and key[2] != "copied" and one:
            n = max(times)
            yield f"{one[n] / times[n]:.2f}  {label(key)} at {human(n)}"


def cliffs(table, moved):
    """Sizes from which on an element takes longer in the same cache, or a call less time."""
    for key, times in table.items():
        if key[2] == "copied":
            continue
        bytes_of_element = moved[key[0]] * (4 if key[1] == "float32" else 8)
        found = []
        for (a, time_a), (b, time_b) in pairwise(times.items()):
            level = [sum(n * bytes_of_element > size for size in caches()) for n in (a, b)]
            rise = (time_b / b) / (time_a / a)
            if time_b < time_a / SLOWER:
                found.append(
                    f"{1e6 * time_a:.3g} µs at {human(a)}, {1e6 * time_b:.3g} at {human(b)}"
                )
            elif b <= a + a // 8 and time_b > EDGE * time_a:
                found.append(f"{1e6 * time_a:.3g} µs at {a}, {1e6 * time_b:.3g} at {b}")
            elif rise > RISE and level[0] == level[1]:
                found.append(
                    f"{1e9 * time_a / a:.3g} ns an element at {human(a)}, "
                    f"{1e9 * time_b / b:.3g} at {human(b)}"
                )
        if found:
            yield f"{label(key)}: {'; '.join(found)}"


def findings(records):
    """Yield (title, lines)."""
    table = series(records)
    moved = {record["kernel"]: record["moved"] for record in records}
    yield (
        f"Two threads slower than one, by more than {SLOWER - 1:.0%}",
        compared(table, (None, None, 2), (None, None, 1), SLOWER),
    )
    yield "Two threads, times as fast at the largest size", sorted(speedups(table))
    yield "Cliffs", cliffs(table, moved)
    yield (
        f"float64 more than {DOUBLE} times float32",
        compared(table, ("float64", None, None), ("float32", None, None), DOUBLE),
    )
    yield (
        f"Without out= more than {NEW:g} times with it",
        compared(table, (None, "new", None), (None, "out", None), NEW),
    )
    yield (
        f"Strided more than {STRIDED} times a copy first",
        compared(table, (None, "strided", None), (None, "copied", None), STRIDED),
    )


def show(records):
    """Print them all."""
    for title, lines in findings(records):
        print(f"\n## {title}\n")
        print("\n".join(f"- {line}" for line in lines) or "None.")
