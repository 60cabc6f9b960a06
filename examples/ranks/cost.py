"""When ranks pay: a model of the time of a step, and a simulation of up to 1000 ranks.

    python examples/ranks/cost.py
    python examples/ranks/cost.py mine.json

The constants are those of measured.json beside it, or of a file that measure.py wrote. Nothing is
run on more than one process here: the tables follow from the constants.
"""

import argparse
import json
import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

BLOCK = 32  # rows: the least that a rank takes of a batch in exact mode
EVERY = 16  # updates between two means in averaging mode
UPDATE = 0.5e-9  # seconds a parameter, of Adam on one thread
READ = 0.1e-9  # seconds a byte of rows that are gathered for a batch
RANKS = (2, 4, 8, 16, 64, 256, 1000)
MODES = ("exact", "sharded", f"average_every={EVERY}")


@dataclass(frozen=True)
class Messages:
    """What moves arrays between ranks."""

    latency: float  # seconds
    bandwidth: float  # bytes a second

    def gather(self, size, ranks):
        """Seconds until every rank has all of so many bytes, of which each made a share."""
        hops = math.ceil(math.log2(ranks))
        return hops * self.latency + size * (1 - 1 / ranks) / self.bandwidth

    def sum(self, size, ranks):
        """Seconds until every rank has the sum over all ranks of so many bytes."""
        return 2 * self.gather(size, ranks)  # sums of shares, and then the shares


@dataclass(frozen=True)
class Network:
    """A perceptron, and the time of its step in one process."""

    widths: tuple[int, ...]
    batch: int
    step: float  # seconds
    spread: float  # standard deviation of the logarithm of that time

    @property
    def name(self):
        """The widths and the batch."""
        return f"{'-'.join(map(str, self.widths))} batch {self.batch}"

    @property
    def parameters(self):
        """The bytes of the parameters."""
        return 4 * sum(inputs * outputs + outputs for inputs, outputs in pairwise(self.widths))

    @property
    def rows(self):
        """The bytes of what the gradients of the weights need of a batch beside its rows.

        That are the outputs of all layers, which the next ones read, and their gradients.
        """
        return 4 * self.batch * 2 * sum(self.widths[1:])


def bytes_of(network, mode):
    """The bytes of a step that ranks gather or, once more, sum."""
    if mode == "exact":
        return network.rows + network.parameters
    if mode == "sharded":
        return 2 * network.parameters
    return 2 * 3 * network.parameters / EVERY  # with Adam's two moments


def exchange(network, mode, ranks, messages):
    """Seconds of the messages of a step."""
    if ranks == 1:
        return 0.0
    if mode == "exact":
        rows, parameters = network.rows, network.parameters
        return messages.gather(rows, ranks) + messages.gather(parameters, ranks)
    if mode == "sharded":
        return messages.sum(network.parameters, ranks)
    return messages.sum(3 * network.parameters, ranks) / EVERY


def compute(network, mode, ranks):
    """Seconds that a rank computes for a step of the whole batch."""
    if mode == "exact":
        blocks, each = (
            math.ceil(network.batch / BLOCK),
            READ * 4 * network.batch * network.widths[0],
        )
        return each + (network.step - each) * math.ceil(blocks / ranks) / blocks
    each = UPDATE * network.parameters / 4
    return each + (network.step - each) / min(ranks, network.batch)


def speed_up(network, mode, ranks, messages):
    """How many times as many rows a second as one process."""
    return network.step / seconds(network, mode, ranks, messages)


def seconds(network, mode, ranks, messages):
    """Seconds of a step. In exact mode ranks share a batch only where that pays."""
    together = compute(network, mode, ranks) + exchange(network, mode, ranks, messages)
    return min(together, network.step) if mode == "exact" else together


def crossover(network, mode, messages):
    """The bandwidth from which two ranks are quicker than one; infinite where they never are."""
    saved = network.step - compute(network, mode, 2)
    waits = exchange(network, mode, 2, Messages(messages.latency, math.inf))
    moved = exchange(network, mode, 2, Messages(0.0, 1.0))  # bytes
    return moved / (saved - waits) if saved > waits else math.inf


def simulate(network, mode, ranks, messages, grows, steps=64, seed=0):
    """How many times as many rows a second as one process, where each step of each rank has its time.

    Ranks wait for the slowest of them whenever they exchange something. With `grows` a rank keeps
    the rows of a step that one process has (weak scaling), otherwise they share them (strong).
    """
    if mode == "exact" and seconds(network, mode, ranks, messages) == network.step:
        return 1.0
    rng = np.random.default_rng(seed)
    of_rank = network.step if grows else compute(network, mode, ranks)
    times = of_rank * np.exp(network.spread * rng.standard_normal((steps, ranks)))
    alone = network.step * np.exp(network.spread * rng.standard_normal(steps))
    together = EVERY if mode == MODES[2] else 1
    slowest = times.reshape(-1, together, ranks).sum(axis=1).max(axis=1)
    whole = slowest.sum() + steps * exchange(network, mode, ranks, messages)
    return (ranks if grows else 1) * alone.sum() / whole


def read(path):
    """Return the messages and the networks of a file."""
    measured = json.loads(path.read_text(encoding="utf-8"))
    networks = [
        Network(tuple(n["widths"]), n["batch"], n["step"], n["spread"])
        for n in measured["networks"]
    ]
    return Messages(measured["latency"], measured["bandwidth"]), networks


def table(titles, lines):
    """Print a table in Markdown."""
    print(f"| {' | '.join(titles)} |")
    print(f"| --- |{' --: |' * (len(titles) - 1)}")
    for line in lines:
        print(f"| {' | '.join(line)} |")


def show_two_ranks(messages, networks):
    """Print bytes, times and speed-ups of two ranks, and the bandwidth from which they pay."""
    titles = [
        "network",
        "way",
        "one process, µs",
        "KB",
        "messages, µs",
        "speed-up",
        "crossover, GB/s",
    ]
    lines = []
    for network in networks:
        for mode in MODES:
            pays = crossover(network, mode, messages)
            lines.append(
                [
                    f"`{network.name}`",
                    mode,
                    f"{1e6 * network.step:.0f}",
                    f"{bytes_of(network, mode) / 1e3:.0f}",
                    f"{1e6 * exchange(network, mode, 2, messages):.0f}",
                    f"{speed_up(network, mode, 2, messages):.2f}",
                    "none" if math.isinf(pays) else f"{pays / 1e9:.2g}",
                ]
            )
    table(titles, lines)


def show_simulation(messages, networks):
    """Print simulated speed-ups of up to 1000 ranks."""
    lines = []
    for network in networks:
        for mode, grows in (
            (MODES[0], False),
            (MODES[1], False),
            (MODES[1], True),
            (MODES[2], True),
        ):
            line = [f"`{network.name}`", f"{mode}, {'weak' if grows else 'strong'}"]
            line += [f"{simulate(network, mode, ranks, messages, grows):.3g}" for ranks in RANKS]
            lines.append(line)
    table(["network", "scaling", *map(str, RANKS)], lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(__file__).with_name("measured.json")
    parser.add_argument("measured", nargs="?", type=Path, default=default, help="of measure.py")
    messages, networks = read(parser.parse_args().measured)
    print("Two ranks, by the model:\n")
    show_two_ranks(messages, networks)
    print("\nSpeed-ups of many ranks, simulated:\n")
    show_simulation(messages, networks)


if __name__ == "__main__":
    main()
