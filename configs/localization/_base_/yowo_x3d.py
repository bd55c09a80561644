# YOWO on X3D-M: 5.756 GMACs at 16 x 224 x 224, counted as those of yowo_i3d.py.
_base_ = 'yowo_i3d.py'
model = dict(
    backbone=dict(_delete_=True, type='X3D', gamma_w=1, gamma_b=2.25, gamma_d=2.2),
    fusion=dict(in_channels=432 + 425))
