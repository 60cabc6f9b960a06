"""How long calls of the estimators take, beside scikit-learn's."""

import numpy as np
from cases import CASES
from judgement import check_same
from report import number, show, verdict
from rounds import interleaved, median, prepared

QUARTILES = (25, 75)
OVERHEAD = 0.05  # the most that the estimator may add to a fit


def measure(case, contestants, rounds):
    """Time a case in interleaved rounds, and return the row of the table."""
    wanted = [one for one in contestants if one.name in ("dlcore", case.peer)]
    ready = prepared("prepare", case.name, wanted)
    figures = {one.name: reply["figures"] for one, reply in ready.items()}
    check_same(case.name, figures, case.tolerance)
    replies, _ = interleaved("call", ready, rounds)
    for contestant in ready:
        contestant.ask("forget")
    row = {
        "case": case.name,
        "peer": case.peer,
        "seconds": {name: median(batches) for name, batches in replies.items()},
        "rounds": {name: [r["seconds"] for r in batches] for name, batches in replies.items()},
        "ratio": None,
        "quartiles": None,
        "must": case.must,
        "aim": case.aim,
    }
    if case.peer in replies:
        times = [np.array(row["rounds"][name]) for name in (case.peer, "dlcore")]
        row["ratio"] = row["seconds"][case.peer] / row["seconds"]["dlcore"]
        row["quartiles"] = np.percentile(times[0] / times[1], QUARTILES).tolist()
    return row


def milliseconds(seconds):
    """Three significant digits, of a call of microseconds too."""
    return (
        ""
        if seconds is None
        else np.format_float_positional(1e3 * seconds, 3, fractional=False, trim="-")
    )


def cells(row):
    """Return a line of the table, by title."""
    quartiles = "" if row["quartiles"] is None else " to ".join(map(number, row["quartiles"]))
    return {
        "case": f"`{row['case']}`",
        **{f"{name}, ms": milliseconds(row["seconds"].get(name)) for name in ("dlcore", "sklearn")},
        "ratio": number(row["ratio"]),
        "quartiles": quartiles,
        "must": f"{row['must']:g}" if row["must"] else "",
        "aim": f"{row['aim']:g}" if row["aim"] else "",
        "met": verdict(row),
    }


def overhead(row):
    """Say what the estimator adds to a fit by the bare Trainer."""
    if row["ratio"] is None:
        return f"{row['case']}: no Trainer to compare with"
    most, share, least = (
        1 / ratio - 1 for ratio in (row["quartiles"][0], row["ratio"], row["quartiles"][1])
    )
    met = "met" if share < OVERHEAD else "not met"
    return (
        f"\nOverhead of the estimator, of a fit by the bare Trainer (`{row['case']}`, "
        f"{1e3 * row['seconds']['trainer']:.1f} ms): {share:+.1%}, quartiles {least:+.1%} to "
        f"{most:+.1%}; must be under {OVERHEAD:.0%}: {met}."
    )


def names(dtype, share, part):
    """Return the names of the cases of a dtype and a share that have a part."""
    own = (case for case in CASES.values() if (case.dtype, case.share) == (dtype, share))
    return [case.name for case in own if part in case.name]


def run(options, contestants):
    """Yield the rows of all cases, printed: a table, and below it what the estimator adds."""
    cases = [CASES[name] for name in options.cases]
    timed = (measure(case, contestants, options.rounds) for case in cases if case.peer == "sklearn")
    yield from show(timed, cells)
    for case in cases:
        if case.peer == "trainer":
            row = measure(case, contestants, options.rounds)
            print(overhead(row), flush=True)
            yield row
