"""The NumPy reference of every kernel, which is readable before it is fast."""

import numpy as np

from dlcore import reference

library, functions = np, reference
