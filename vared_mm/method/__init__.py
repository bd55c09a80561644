"""The method of VA-RED², on torch alone."""

from vared_mm.method.config import DynamicConfig
from vared_mm.method.errors import DynamicError, NoMatchingModuleError, UnsupportedConvError
from vared_mm.method.layer import VaRedConv2d, VaRedConv3d
from vared_mm.method.surgery import make_dynamic

__all__ = [
    "DynamicConfig",
    "DynamicError",
    "NoMatchingModuleError",
    "UnsupportedConvError",
    "VaRedConv2d",
    "VaRedConv3d",
    "make_dynamic",
]
