"""Two reports beside each other, so that a regression is seen."""

import statistics

from benchmarks.harness.process import AGAINST
from benchmarks.harness.report import Table, number, read


def changes(old, new, library):
    """Return {name: times as slow as before} of a library, and the names that only one has."""
    if old["suite"] != new["suite"]:
        raise ValueError(f"the reports are of two suites, {old['suite']} and {new['suite']}")
    before, after = (
        {row["name"]: row["median"] for row in report["rows"] if row["library"] == library}
        for report in (old, new)
    )
    both = [name for name in before if name in after]
    if old["unit"] == "score":  # where more is better
        slower = {name: before[name] / after[name] for name in both}
    else:
        slower = {name: after[name] / before[name] for name in both}
    return slower, sorted(before.keys() ^ after.keys())


def regressions(old, new, library, tolerance):
    """Return the names of what became slower by more than the tolerance."""
    return [name for name, ratio in changes(old, new, library)[0].items() if ratio > 1 + tolerance]


def compare(old_path, new_path, tolerance=0.03, library="dlcore"):
    """Print how much slower each row became, the worst first; return the exit status."""
    old, new = read([old_path]), read([new_path])
    slower, alone = changes(old, new, library)
    if not slower:
        print(f"The reports have no row of {library} in common.")
        return 2
    table = Table()
    rows = [
        {r["name"]: r for r in report["rows"] if r["library"] == library} for report in (old, new)
    ]
    for name, ratio in sorted(slower.items(), key=lambda item: -item[1]):
        before, after = (number(report[name]["median"] * scale(old)) for report in rows)
        table.add(
            {
                "case": f"`{name}`",
                f"old, {unit(old)}": before,
                f"new, {unit(old)}": after,
                "times as slow": f"{ratio:.3f}",
                "met": "slower" if ratio > 1 + tolerance else "",
            }
        )
    others = {row["library"] for row in old["rows"]} - {library, AGAINST}
    for other in sorted(others):  # which did not change: the machine did
        drift = list(changes(old, new, other)[0].values())
        if drift:
            print(f"\n{other} takes {statistics.geometric_mean(drift):.3f} of its old time.")
    if alone:
        print(f"\nOnly in one of the reports: {', '.join(alone)}.")
    worse = regressions(old, new, library, tolerance)
    mean = statistics.geometric_mean(slower.values())
    print(
        f"\n{library}: {mean:.3f} of the old time in the geometric mean of {len(slower)} rows; "
        f"{len(worse)} slower by more than {tolerance:.0%}."
    )
    return 1 if worse else 0


def unit(report):
    return "µs" if report["unit"] == "s" else report["unit"]


def scale(report):
    return 1e6 if report["unit"] == "s" else 1


def summarize_against(report, tolerance):
    """Say how dlcore does beside its other build; return the exit status.

    What else runs on the machine only adds time: dlcore is slower where both the median ratio and
    the ratio of the least times say so.
    """
    rows = [row for row in report["rows"] if row["library"] == AGAINST]
    if not rows:
        return 0
    better = -1 if report["unit"] == "score" else 1
    slower = {
        row["name"]: 1 / max(row["ratio"] ** better, row["ratio_of_least"] ** better)
        for row in rows
    }
    worse = {name: ratio for name, ratio in slower.items() if ratio > 1 + tolerance}
    mean = statistics.geometric_mean(row["ratio"] ** better for row in rows)
    print(
        f"\nThe other build takes {mean:.3f} of dlcore's time in the geometric mean of {len(rows)} "
        f"rows; dlcore is slower by more than {tolerance:.0%} in {len(worse)}."
    )
    for name, ratio in sorted(worse.items(), key=lambda item: -item[1]):
        print(f"- {name}: {ratio:.3f} times as long")
    return 1 if worse else 0
