"""YOWO, a single-stage detector of actions: which box of the key frame does what, from a clip.

Köpüklü et al., "You Only Watch Once", 2019; what VA-RED² made dynamic for Table 8 is its 3-D trunk.
"""

from vared_mm.models.localization.cfam import CFAM
from vared_mm.models.localization.darknet19 import Darknet19
from vared_mm.models.localization.region_head import RegionHead
from vared_mm.models.localization.yowo import YOWO

__all__ = ["CFAM", "YOWO", "Darknet19", "RegionHead"]
