"""Ranks fail alike: what goes wrong on one of them is raised on all, with its name."""

from __future__ import annotations

import builtins
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dlcore._common.ranks import RankError, described, is_on_all, on_all

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dlcore._common.ranks import Ranks


@contextmanager
def raised_on_all(ranks: Ranks | None) -> Iterator[None]:
    """Do something without exchanges that may fail on one rank, and fail alike on all of them.

    Without ranks, just do it.
    """
    if ranks is None:
        yield
        return
    error = None
    try:
        yield
    except Exception as caught:
        if is_on_all(caught):
            raise
        error = caught
    agree_on(ranks, error)


def agree_on(ranks: Ranks, error: Exception | None) -> None:
    """Raise the error of the first rank that has one on all of them, as the same kind.

    Of a kind that is not Python's own it is raised as it is where it has happened, and as a
    `RankError` elsewhere; so it is on all ranks where all have the same one.
    """
    failures = ranks.of_each(None if error is None else _told(error))
    if error is not None and all(failure == failures[0] for failure in failures):
        raise on_all(error)
    for rank, failure in enumerate(failures):
        if failure is None:
            continue
        kind, text, whole = failure
        where = f"rank {rank} of {ranks.size}"
        if kind is not None:
            raise on_all(getattr(builtins, kind)(f"{where}: {text}")) from error
        if rank == ranks.rank and error is not None:
            raise on_all(error)
        raise on_all(RankError(f"{where} failed: {whole}")) from error


def first_of(ranks: Ranks | None, text: str | None) -> str | None:
    """Return the first text of any rank, with its name; None if there is none."""
    if ranks is None:
        return text
    for rank, own in enumerate(ranks.of_each(text)):
        if own is not None:
            return f"{own} on rank {rank} of {ranks.size}"
    return None


def _told(error: Exception) -> tuple[str | None, str, str]:
    """Return what other ranks make the same error of: its kind, where that takes a text; its text."""
    for kind in (FloatingPointError, IndexError, TypeError, ValueError, RuntimeError):
        if isinstance(error, kind):
            is_own = type(error).__module__.partition(".")[0] in ("builtins", "dlcore")
            return (kind.__name__ if is_own else None), str(error), described(error)
    return None, str(error), described(error)
