"""Models that leave the package: ONNX and C."""

from dlcore.export import _onnx
from dlcore.export._onnx import *

__all__: list[str] = []
__all__ += _onnx.__all__
