"""Entropies and cross-entropies of distributions and of labels."""

from dlcore.functional import _information
from dlcore.functional._information import *

__all__: list[str] = []
__all__ += _information.__all__
