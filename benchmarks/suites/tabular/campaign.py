"""Fits, each in a process of its own, whose figures are appended to a file of JSON lines.

A campaign that was interrupted goes on where it stopped: what is in the file is not fitted again.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks import ROOT
from benchmarks.harness.process import THREADS
from benchmarks.suites.tabular.methods import METHODS

KEY = ("set", "method", "seed", "rows")


def key(record):
    """Return what tells one fit from another."""
    return tuple(record[name] for name in KEY)


def read(path):
    """Return the records of a file, {key: record}; of equal keys the last one holds.

    A line that was not written to its end is skipped.
    """
    records = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        records[key(record)] = record
    return records


def append(path, record):
    """Add a record as a line, after a line that was cut off too."""
    cut = path.exists() and path.stat().st_size and not path.read_bytes().endswith(b"\n")
    with path.open("a") as file:
        file.write("\n" * bool(cut) + json.dumps(record) + "\n")


def ask(job, limit=None):
    """Have a job done in a process of its own; return its reply, or that it failed."""
    variables = dict.fromkeys(THREADS, str(job["threads"]))
    try:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.suites.tabular.fit"],
            input=json.dumps(job) + "\n",
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
            cwd=ROOT,
            env=os.environ | variables,
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"more than {limit:g} s"}
    if done.returncode or not done.stdout:
        last = (done.stderr.strip() or "without a word").splitlines()[-1]
        return {"failed": f"its process ended with {done.returncode}: {last}"}
    return json.loads(done.stdout.splitlines()[-1])


def job_of(options, method, name=None, seed=0):
    return {
        "method": method,
        "set": name,
        "seed": seed,
        "rows": options.rows,
        "threads": options.threads,
        "data": str(options.data),
    }


def there(options, methods, note):
    """Return {method: version} of the methods that can run; say which cannot.

    A library is asked once, and dlcore, which may be an older one, for each of its methods.
    """
    replies, versions = {}, {}
    for method in methods:
        library, own = METHODS[method]
        asked = (library, own) if library == "dlcore" else library
        if asked not in replies:
            replies[asked] = ask(job_of(options, method))
        reply = replies[asked]
        if "version" in reply:
            versions[method] = reply["version"]
        else:
            note(f"{method} is left out: {next(iter(reply.values()))}")
    return versions


def run(options, methods, note):
    """Fit what is not in the file yet, seed by seed; return all records that were asked for.

    Each seed has all sets and methods before the next begins, so that what there is, is paired.
    """
    path = Path(options.results)
    records = read(path)
    wanted = [
        job_of(options, method, name, seed)
        for seed in range(options.rounds)
        for name in options.cases
        for method in methods
    ]
    left = [
        job
        for job in wanted
        if key(job) not in records
        or job["method"] in options.again
        or ("failed" in records[key(job)] and options.retry)
    ]
    note(f"{len(wanted) - len(left)} of {len(wanted)} fits are in {path}.")
    for i, job in enumerate(left, 1):
        reply = ask(job, options.limit)
        record = {name: job[name] for name in (*KEY, "threads")} | reply
        append(path, record)
        records[key(job)] = record
        told = (
            reply.get("failed")
            or f"{reply['fit']:.1f} s, {next(iter(reply['errors'].values())):.4f}"
        )
        note(f"{i}/{len(left)} {job['set']}, {job['method']}, seed {job['seed']}: {told}")
    found = [records[key(job)] for job in wanted]
    check_splits(found)
    return found


def check_splits(records):
    """Raise where the rows that two methods were given differ."""
    splits = {}
    for record in records:
        if "split" in record:
            place = record["set"], record["seed"], record["rows"]
            if splits.setdefault(place, record["split"]) != record["split"]:
                raise ValueError(
                    f"{record['method']} had other rows of {record['set']} than those before it: "
                    "the file has results of two versions of the splits"
                )
