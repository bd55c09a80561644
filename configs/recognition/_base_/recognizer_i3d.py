# The paper's I3D: Inception-V1 inflated, 55.93 GMACs at 16 x 256 x 256.
_base_ = '../../_base_/recognizer3d.py'
model = dict(
    backbone=dict(type='InceptionI3d'), cls_head=dict(num_classes=400, in_channels=1024))
