"""Code that runs in a process of its own."""

import os
import subprocess
import sys


def run_python(code, **env):
    """Run code, with these variables in its environment as well; return what it prints."""
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **env},
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()
