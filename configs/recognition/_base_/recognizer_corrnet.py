# CorrNet on R(2+1)D-18 for Mini-Kinetics-200, 60.61 GMACs at 16 x 128 x 128.
_base_ = '../../_base_/recognizer3d.py'
model = dict(
    backbone=dict(type='CorrNet', clip_len=16), cls_head=dict(num_classes=200, in_channels=512))
