from vared_mm.models import inception_i3d as inception_i3d
