"""Libraries take turns at a case; times are medians over the rounds."""

import statistics
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import sleep

HERE = Path(__file__).parent
sys.path += [str(HERE.parent / "compare"), str(HERE.parent / "sweep")]

import contest

contest.WORKER = HERE / "worker.py"  # what its processes run, here


def note(message):
    """Tell beside the table."""
    print(message, file=sys.stderr, flush=True)


@contextmanager
def contestants(names, threads):
    """Start the libraries that are installed; yield them, and their versions by name."""
    started, versions = [], {}
    with ExitStack() as stack:
        for name in names:
            contestant = contest.Contestant(name, "float32", threads)
            stack.callback(contestant.close)
            try:
                versions[name] = contestant.greeting()
                started.append(contestant)
            except contest.Failure as failure:
                if name == "dlcore":
                    raise
                note(f"{name} is left out: {failure}")
        yield started, versions


def prepared(command, name, contestants):
    """Return, for each who can do it, the reply to a command that gets ready for a case."""
    replies = {}
    for contestant in contestants:
        try:
            replies[contestant] = contestant.ask(command, name)
        except contest.Failure as failure:
            if contestant.name == "dlcore":
                raise
            note(f"{contestant.name} is left out of {name}: {failure}")
    return replies


def interleaved(command, contestants, rounds, spinner=None):
    """Have a command carried out by all, round by round; return the replies by name.

    Second come the replies beside the spinner, a process that takes a core, if there is one.
    """
    turns = list(contestants)
    idle, busy = ({contestant.name: [] for contestant in turns} for _ in range(2))
    for _ in range(rounds):
        for contestant in turns:
            sleep(contest.PAUSE)
            idle[contestant.name].append(contestant.ask(command))
            if spinner:
                spinner.resume()
                sleep(contest.PAUSE)
                busy[contestant.name].append(contestant.ask(command))
                spinner.stop()
        turns.append(turns.pop(0))
    return idle, busy


def median(replies):
    """Return the median time of replies."""
    return statistics.median(reply["seconds"] for reply in replies)


def best_peer(seconds):
    """Name the fastest beside dlcore."""
    return min(seconds.keys() - {"dlcore"}, key=seconds.get, default=None)


def measure_training(case, contestants, rounds, spinner=None):
    """Time epochs, and return the row of the table."""
    ready = prepared("train", case.name, contestants)
    idle, busy = interleaved("epoch", ready, rounds, spinner)
    for contestant in ready:
        contestant.ask("forget")

    peak = idle.pop("peak", None)
    seconds = {name: median(replies) / case.steps for name, replies in idle.items()}
    flops = case.flops / case.steps / seconds["dlcore"]
    most = peak and max(reply["result"] for reply in peak)
    peer = best_peer(seconds)
    row = {
        "case": case.name,
        "rows": case.rows,
        "steps": case.steps,
        "seconds_per_step": seconds,
        "loss": {name: replies[-1]["result"] for name, replies in idle.items()},
        "epochs": {name: [reply["seconds"] for reply in replies] for name, replies in idle.items()},
        "best_peer": peer,
        "ratio": seconds[peer] / seconds["dlcore"] if peer else None,
        "must": case.must,
        "aim": case.aim,
        "flops": flops,
        "peak": most,
        "share_of_peak": flops / most if most else None,
    }
    if spinner:
        row["slowdown"] = {
            name: median(busy[name]) / median(replies) for name, replies in idle.items()
        }
    return row


def measure_calls(command, name, contestants, rounds):
    """Time calls of the model, or of the products, and return the row of the table."""
    ready = prepared(command, name, contestants)
    replies, _ = interleaved("call", ready, rounds)
    for contestant in ready:
        contestant.ask("forget")
    peak = replies.pop("peak", None)
    seconds = {name: median(batches) for name, batches in replies.items()}
    peer = best_peer(seconds)
    return {
        "case": name,
        "seconds": seconds,
        "rounds": {name: [r["seconds"] for r in batches] for name, batches in replies.items()},
        "error": {contestant.name: reply["error"] for contestant, reply in ready.items()},
        "peak": peak and max(reply["result"] for reply in peak),
        "best_peer": peer,
        "ratio": seconds[peer] / seconds["dlcore"] if peer else None,
    }
