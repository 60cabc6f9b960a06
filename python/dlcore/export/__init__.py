"""Models that leave the package: ONNX and C."""

from dlcore.export import _c, _onnx
from dlcore.export._c import *
from dlcore.export._onnx import *

__all__: list[str] = []
__all__ += _c.__all__
__all__ += _onnx.__all__
