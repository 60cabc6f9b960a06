"""Benchmarks of dlcore: ``python -m benchmarks --help``, from the root of a checkout."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests"))  # for `support`: the kernels' cases and their errors
