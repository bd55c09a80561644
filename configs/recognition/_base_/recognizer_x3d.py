# X3D-M, 6.18 GMACs at 16 x 256 x 256.
_base_ = '../../_base_/recognizer3d.py'
model = dict(
    backbone=dict(type='X3D', gamma_w=1, gamma_b=2.25, gamma_d=2.2),
    cls_head=dict(type='X3DHead', num_classes=400, in_channels=432))
