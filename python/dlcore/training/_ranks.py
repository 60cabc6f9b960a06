"""A fit of ranks that make the same calls: what they agree on before it, and how it ends on all."""

from __future__ import annotations

import os
import socket
import time
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._common.agreement import raised_on_all
from dlcore._common.ranks import Ranks, is_on_all, on_all
from dlcore._native import threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from dlcore._common.shared_memory import SharedMemory
    from dlcore._common.typing import Array
    from dlcore._native import _core
    from dlcore.callbacks._history import History
    from dlcore.training._dataset import Dataset
    from dlcore.training._prepared import PreparedFit

# Bytes of all ranks together by which a message is timed, and how often.
_BYTES, _TIMES = 2**20, 5


def fit_together(trainer: Any, ranks: Ranks, prepare: Callable[[], PreparedFit]) -> History:
    """Fit on all ranks, from the same weights and draws, which are those of rank 0.

    An error that is not raised on all of them ends the job: the others wait for this rank.
    """
    try:
        divide_cores(ranks)
        _share_draws(trainer, ranks)
        with raised_on_all(ranks):
            prepared = prepare()
        prepared.resumed = ranks.of_first(prepared.resumed)
        if not trainer.sharded:
            check_same_rows(ranks, getattr(prepared.source, "data", None))
        _share_state(trainer, ranks)
        prepared.ranks = ranks.of_each(f"process {os.getpid()} on {socket.gethostname()}")
        return prepared.run()
    except BaseException as error:
        end_unless_on_all(trainer.comm, error)
        raise


def end_unless_on_all(comm: Any, error: BaseException | None) -> None:
    """End the job of all ranks where one fails by itself, since the others wait for it."""
    if comm is not None and comm.size > 1 and error is not None and not is_on_all(error):
        Ranks(comm).end_job(error)


def divide_cores(ranks: Ranks) -> None:
    """Let the ranks of each machine use its cores together, unless their number is set."""
    own = threads.default_num_threads()[0]
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    all_ranks = ranks.of_each((socket.gethostname(), cores, own))
    here = [given for given in all_ranks if given[0] == all_ranks[ranks.rank][0]]
    # Ranks that were bound to cores of their own have divided them.
    beside = sum(given[1] == cores for given in here)
    if beside > 1:
        threads.divide_default(beside)


@dataclass(frozen=True)
class SharedWork:
    """How native steps share the work of each batch.

    Attributes
    ----------
    ranks : Ranks
    message, byte : float
        Nanoseconds that a message takes, and a byte of it.
    memory : SharedMemory, optional
        What they exchange through, on one machine.
    """

    ranks: Ranks
    message: float
    byte: float
    memory: SharedMemory | None = None

    @classmethod
    def measured(cls, ranks: Ranks) -> SharedWork:
        """Time messages between the ranks: the result is the same on all of them."""
        memory = ranks.shared_memory()
        exchange = ranks.gather_bytes if memory is None else memory.gather_bytes
        short = _nanoseconds(exchange, 1, ranks.size)
        long = _nanoseconds(exchange, _BYTES // ranks.size, ranks.size)
        # Ranks of many threads lose the time of all of them.
        number = max(ranks.of_each(threads.get_num_threads()))
        # Beside the message itself, memory is written and read on both sides.
        byte = max(long - short, 0.0) / _BYTES + 0.2
        short, byte = ranks.of_first((short * number, byte * number))
        return cls(ranks, short, byte, memory)

    def attach(self, step: _core.TrainingStep) -> None:
        """Have a native step share its batches."""
        ranks, memory = self.ranks, self.memory
        gather = ranks.gather_bytes if memory is None else memory.meet
        parts = () if memory is None else tuple(memory.parts)
        step.share_with(ranks.rank, ranks.size, gather, self.message, self.byte, parts)


def _nanoseconds(gather: Callable[[Array, Array], None], size: int, ranks: int) -> float:
    own, out = np.zeros(size, np.uint8), np.zeros(ranks * size, np.uint8)
    best = float("inf")
    for _ in range(_TIMES):
        begin = time.perf_counter()
        gather(own, out)
        best = min(best, time.perf_counter() - begin)
    return best * 1e9


def _share_draws(trainer: Any, ranks: Ranks) -> None:
    """Let all trainers draw as that of rank 0 does."""
    split = trainer._split_seed
    own = (
        trainer._shuffle_rng.bit_generator.state,
        trainer._layer_rng.bit_generator.state,
        (split.entropy, tuple(split.spawn_key)),
        trainer._batch_key,
    )
    shuffle, layers, (entropy, spawn_key), key = ranks.of_first(own)
    trainer._shuffle_rng.bit_generator.state = shuffle
    trainer._layer_rng.bit_generator.state = layers
    trainer._split_seed = np.random.SeedSequence(entropy, spawn_key=spawn_key)
    trainer._batch_key = key


def _share_state(trainer: Any, ranks: Ranks) -> None:
    """Let all models and optimizers be in the state of those of rank 0."""
    model, optimizer = trainer.model, trainer.optimizer
    has_state = hasattr(optimizer, "state_dict") and hasattr(optimizer, "load_state_dict")
    rates = trainer._learning_rates
    states = {"model": model.state_dict(), "draws": model._draws, "schedule": rates.state_dict()}
    if has_state:
        states["optimizer"] = optimizer.state_dict()
    if len(set(ranks.of_each(_checksum(states)))) == 1:
        return
    states = ranks.of_first(states)
    with raised_on_all(ranks):
        model.load_state_dict(states["model"])
        model._set_draws(states["draws"])
        rates.load_state_dict(states["schedule"])
        if has_state:
            optimizer.load_state_dict(states["optimizer"])


def become_alike(trainer: Any, ranks: Ranks) -> None:
    """Let trainers that learn from batches begin from the weights and draws of rank 0, as in a fit."""
    divide_cores(ranks)
    _share_draws(trainer, ranks)
    _share_state(trainer, ranks)
    trainer._is_alike = True


def check_same_rows(ranks: Ranks, rows: Dataset | None) -> None:
    """Raise a ValueError on all ranks where one of them was given other rows than rank 0."""
    own = None if rows is None else (len(rows), rows.x.shape[1], _checksum(np.asarray(rows.y)))
    first, *others = ranks.of_each(own)
    for rank, given in enumerate(others, 1):
        if given != first:
            raise on_all(
                ValueError(
                    f"every rank must be given the same x and y, but those of rank {rank} are not "
                    f"those of rank 0; sharded=True is for rows of each rank's own"
                )
            )


def _checksum(tree: Any, start: int = 0) -> int:
    """Return a checksum of nested dicts and lists of arrays and numbers."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            start = _checksum(value, zlib.crc32(str(name).encode(), start))
        return start
    if isinstance(tree, list | tuple):
        for value in tree:
            start = _checksum(value, start)
        return start
    if isinstance(tree, np.ndarray):
        return zlib.crc32(np.ascontiguousarray(tree).reshape(-1).view(np.uint8).data, start)
    return zlib.crc32(repr(tree).encode(), start)
