"""How well tables are learned, beside other libraries' estimators, and at what cost.

Real tables from packages on PyPI, the same splits for all, each fit in a process of its own, and
results that are appended to a file, so that a campaign of many hours may be interrupted.
"""

from pathlib import Path

from benchmarks.harness.suite import Suite
from benchmarks.suites.tabular import campaign, summary
from benchmarks.suites.tabular.methods import METHODS, MORE, OURS, PEERS
from benchmarks.suites.tabular.packages import HOME
from benchmarks.suites.tabular.scores import ERRORS
from benchmarks.suites.tabular.sets import DATASETS

ROWS, QUICK_ROWS = 40_000, 1000


def listed(text):
    return [name for name in text.split(",") if name]


class Tabular(Suite):
    title = "Errors, times and memory of estimators on real tables, beside other libraries'."
    peers = (*PEERS, *MORE)
    rounds = 5
    unit, scale, shown = "error", 1, ""

    def add_arguments(self, parser):
        add = parser.add_argument
        add("--seeds", dest="rounds", type=int, help=f"as --rounds ({self.rounds})")
        add(
            "--ours",
            type=listed,
            default=list(OURS),
            help=f"the first is beside all: {','.join(OURS)}",
        )
        add("--rows", type=int, help=f"the most to train on ({ROWS}; --quick: {QUICK_ROWS})")
        add("--results", type=Path, default=Path("tabular.jsonl"), help="file (%(default)s)")
        add("--data", type=Path, default=HOME, help="where packages are kept (%(default)s)")
        add("--limit", type=float, metavar="SECONDS", help="of a fit and its predictions")
        add("--again", type=listed, default=[], metavar="LIST", help="methods to fit anew")
        add("--retry", action="store_true", help="what failed before")
        add("--by", choices=ERRORS, default="error", help="which errors (%(default)s)")
        add("--small", action="store_true", help="small sets of scikit-learn instead, to try it")

    def complete(self, options, parser):
        if options.against or options.read:
            parser.error("--against and --read have no meaning here: --results FILE is read")
        if unknown := (set(options.ours) - set(OURS)) | (set(options.again) - set(METHODS)):
            parser.error(f"unknown methods {', '.join(sorted(unknown))}: {', '.join(METHODS)}")
        if options.rows is None:
            options.rows = QUICK_ROWS if options.quick else ROWS
        if options.rows < 20:
            parser.error("--rows: at least 20")
        if options.peers is None:
            options.peers = ",".join(PEERS)

    def cases(self, options):
        return [name for name, own in DATASETS.items() if own.small == options.small]

    def run(self, options, table, note):
        """Fit what is left to be fitted; return the report."""
        from benchmarks.harness import machine, report

        versions = campaign.there(options, [*options.ours, *options.peers], note)
        if not set(versions) & set(OURS):
            raise SystemExit("none of dlcore's own methods can run")
        records = campaign.run(options, list(versions), note)
        found = summary.summarize(records, options.by)
        full = {
            "suite": options.suite,
            "machine": machine.describe(versions),
            "unit": self.unit,
            **{key: value for key, value in vars(options).items() if key not in ("suite", "cases")},
            "rows": list(rows_of(found)),
            "records": records,
        }
        if options.json:
            report.write(full, options.json)
        return full

    def finish(self, report, options):
        print(summary.text(summary.summarize(report["records"], options.by)))

    def draw(self, report, path):
        from benchmarks.suites.tabular.chart import draw

        draw(summary.summarize(report["records"], report["by"]), path)


def rows_of(found):
    """Yield rows as reports have them: the mean error of a method on a set."""
    for i, method in enumerate(found.methods):
        for j, name in enumerate(found.sets):
            errors = found.errors[i, j]
            costs = {key: float(own[i, j].mean()) for key, own in found.costs.items()}
            yield {
                "name": name,
                "library": method,
                "median": float(errors.mean()),
                "rounds": errors.tolist(),
                "metric": found.metrics[name],
                **costs,
            }


SUITE = Tabular()
