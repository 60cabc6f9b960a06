"""Models, normalizers and estimators in files: `save`, `load`, `load_metadata`."""

from dlcore.saving import _files
from dlcore.saving._files import *

__all__: list[str] = []
__all__ += _files.__all__
