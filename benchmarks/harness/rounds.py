"""Libraries take turns at a case; times are medians over the rounds."""

import statistics
from dataclasses import dataclass, field
from time import sleep

from benchmarks.harness.process import AGAINST, Failure

PAUSE = 0.01  # seconds between turns
AGAIN = 3  # times as many rounds for a surprise


@dataclass
class Times:
    """The turns of a library at one variant of a case."""

    library: str
    variant: str
    info: dict
    seconds: list[float] = field(default_factory=list)
    results: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)  # seconds beside a process that takes a core

    @property
    def median(self):
        return statistics.median(self.seconds)


def prepared(case, processes, note):
    """Return the times to be measured, by process and variant, of those who can do the case."""
    times = {}
    for process in processes:
        try:
            reply = process.ask("prepare", case)
        except Failure as failure:
            if process.name in ("dlcore", AGAINST):
                raise
            note(f"{process.name} is left out of {case}: {failure}")
            continue
        if reply["variants"]:
            info = reply["info"]
            times[process] = {v: Times(process.name, v, info) for v in reply["variants"]}
    return times


def interleave(times, rounds, spinner=None, command="turn"):
    """Have all take their turns, round by round; the order rotates.

    With a spinner each turn is taken twice, the second time beside it.
    """
    turns = {process: list(variants) for process, variants in times.items()}
    order = list(turns)
    for _ in range(rounds):
        for process in order:
            sleep(PAUSE)
            for variant, reply in process.ask(command, turns[process]).items():
                times[process][variant].seconds.append(reply["seconds"])
                times[process][variant].results.append(reply["result"])
            if spinner:
                spinner.resume()
                sleep(PAUSE)
                for variant, reply in process.ask(command, turns[process]).items():
                    times[process][variant].busy.append(reply["seconds"])
                spinner.stop()
            turns[process].append(turns[process].pop(0))
        order.append(order.pop(0))


def measure(suite, case, processes, options, spinner, note):
    """Measure a case, and return its times, {variant: {library: Times}}."""
    times = prepared(case, [p for p in processes if suite.takes(p.name, case, options)], note)
    suite.agree(case, {p.name: next(iter(own.values())).info for p, own in times.items()})
    interleave(times, options.rounds, spinner, suite.command)
    found = suite.shared(by_variant(times))
    if doubtful := suite.doubtful(found, options):
        again = {
            process: {v: Times(t.library, v, t.info) for v, t in own.items() if v in doubtful}
            for process, own in times.items()
        }
        interleave(again, AGAIN * options.rounds, None, suite.command)
        for process, own in again.items():
            for variant, fresh in own.items():
                fresh.busy = times[process][variant].busy
                times[process][variant] = fresh
        found = suite.shared(by_variant(times))
    for process, own in times.items():
        checked = {} if options.quick else process.ask("check")
        for one in own.values():
            one.info = one.info | checked
        process.ask("forget")
    return found


def by_variant(times):
    """Turn {process: {variant: Times}} round."""
    variants = dict.fromkeys(v for own in times.values() for v in own)
    return {
        v: {process.name: own[v] for process, own in times.items() if v in own} for v in variants
    }
