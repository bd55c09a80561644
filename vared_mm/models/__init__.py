from vared_mm.models import arnet as arnet
from vared_mm.models import corrnet as corrnet
from vared_mm.models import dynamic_backbones as dynamic_backbones
from vared_mm.models import inception_i3d as inception_i3d
from vared_mm.models import localization as localization
from vared_mm.models import narrowed_backbone as narrowed_backbone
from vared_mm.models import r2plus1d as r2plus1d
