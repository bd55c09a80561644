# The paper's R(2+1)D-18, 55.08 GMACs at 16 x 128 x 128.
_base_ = '../../_base_/recognizer3d.py'
model = dict(backbone=dict(type='R2Plus1d18'), cls_head=dict(num_classes=400, in_channels=512))
