"""Work that is cut into jobs, each of which one thread does from its beginning to its end."""

from __future__ import annotations

import contextvars
import queue
import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from dlcore._common.checks import check_positive_int
from dlcore._native import dispatch
from dlcore._native.threads import adopt_num_threads, get_num_threads
from dlcore.training._interruption import be_interrupted_by, look_up

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Seconds between two looks at what is going on.
_LOOK = 0.1


def run_jobs(
    jobs: Sequence[Callable[[], Any]],
    *,
    workers: int | None = None,
    stops: bool = True,
    ended: Callable[[int, Exception | None], None] = lambda *_: None,
    look: Callable[[], None] = lambda: None,
) -> dict[int, Exception]:
    """Do all jobs, in this order, on several threads.

    The threads of the native code are shared out among those that still have a job, so that the
    last ones get more of them. A job has the bits that it has alone.

    Parameters
    ----------
    jobs : sequence of callable
    workers : int, optional
        How many are done at a time, by default `dlcore.get_num_threads`.
    stops : bool
        Whether an exception of one job stops the others.
    ended : callable
        ``ended(i, exception or None)`` is called in this thread after the end of each job,
    look : callable
        and this one ten times a second where there are several threads.

    Returns
    -------
    dict
        The exceptions of jobs, by their indices; at most one where it stops the others. Jobs that
        were stopped have none.

    Raises
    ------
    BaseException
        What ``ended``, ``look`` or a signal such as Ctrl-C raises, once all jobs have been stopped.
    """
    threads = get_num_threads()
    count = min(len(jobs), threads if workers is None else check_positive_int("workers", workers))
    crew = _Crew(jobs, count, threads, stops)
    if count <= 1:
        return crew.work_here(ended)
    try:
        crew.start()
        crew.wait(ended, look)
    finally:
        crew.stop()
    return crew.errors


class _Crew:
    """The threads, and the jobs that are left to them."""

    def __init__(
        self, jobs: Sequence[Callable[[], Any]], count: int, threads: int, stops: bool
    ) -> None:
        self.errors: dict[int, Exception] = {}
        self._left = deque(enumerate(jobs))
        self._ended: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._busy, self._threads, self._stops = count, threads, stops
        self._lock = threading.Lock()
        self._is_stopped = False
        self._failure: BaseException | None = None
        self._flushes = dispatch.core.exchange_flushing(False)
        dispatch.core.exchange_flushing(self._flushes)
        self._crew = [
            threading.Thread(
                target=contextvars.copy_context().run, args=(self._work,), name=f"dlcore-many-{i}"
            )
            for i in range(count)
        ]

    def work_here(self, ended: Callable[[int, Exception | None], None]) -> dict[int, Exception]:
        """Do all jobs in this thread."""
        while self._left:
            i = self._do_next()
            ended(i, self.errors.get(i))
        return self.errors

    def start(self) -> None:
        """Begin."""
        for thread in self._crew:
            thread.start()

    def wait(
        self, ended: Callable[[int, Exception | None], None], look: Callable[[], None]
    ) -> None:
        """Wait until all jobs are done, or one that stops the others has failed."""
        working = len(self._crew)
        while working:
            try:
                # On some systems a signal does not end a longer wait.
                i = self._ended.get(timeout=_LOOK)
            except queue.Empty:
                look_up()  # this thread may be a worker itself
                look()
                continue
            if i is None:
                working -= 1
            else:
                ended(i, self.errors.get(i))
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """End all jobs, and wait for that."""
        self._is_stopped = True
        for thread in self._crew:
            # One that has not begun, where Ctrl-C came early, ends as soon as it does.
            with suppress(RuntimeError):
                thread.join()

    def _work(self) -> None:
        dispatch.core.exchange_flushing(self._flushes)
        be_interrupted_by(self._look)
        try:
            self._look()
            while self._left and not self._is_stopped:
                try:
                    self._ended.put(self._do_next())
                except IndexError:  # another one was faster
                    break
        except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
            if not self._is_stopped:
                self._failure, self._is_stopped = error, True
        finally:
            with self._lock:
                self._busy -= 1
            self._ended.put(None)

    def _do_next(self) -> int:
        i, job = self._left.popleft()
        try:
            job()
        except Exception as error:  # noqa: BLE001 - of this job alone
            if not self._is_stopped:
                self.errors[i] = error
            if self._stops:
                self._is_stopped = True
                self._left.clear()
        return i

    def _look(self) -> None:
        """In a worker: stop if the others do, and take the threads of those that have no job."""
        if self._is_stopped:
            raise KeyboardInterrupt("the other fits were stopped")
        adopt_num_threads(max(1, self._threads // self._busy))
