"""The process of one library: carries out commands, JSON lines on stdin, and replies on stdout."""

import json
import os
import signal
import sys
import traceback


def serve(make_worker, cores):
    """Reply to one command after the other with the worker's methods, until there are no more."""
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no reply
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver's to handle

    def reply(message):
        print(json.dumps(message), file=replies)

    if hasattr(os, "sched_setaffinity"):  # not all libraries can be told by a variable
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(cores)])
    try:
        worker = make_worker()
    except ImportError as error:
        return reply({"failed": str(error)})
    reply({"version": worker.peer.library.__version__})
    for line in sys.stdin:
        command, *arguments = json.loads(line)
        try:
            reply(getattr(worker, command)(*arguments))
        except Exception as error:  # noqa: BLE001 - whatever a library may raise
            traceback.print_exc()
            worker.forget()
            reply({"failed": f"{type(error).__name__}: {error}"})
    return None
