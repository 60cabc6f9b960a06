"""The NumPy reference of every kernel, which is readable before it is fast."""

import numpy as library
from dlcore import reference as functions

__all__ = ["functions", "library"]
