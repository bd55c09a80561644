# A plain 2-D ResNet-50 for Mini-Kinetics-200, its scores averaged over the frames: 65.39 GMACs at
# 16 x 224 x 224, 23.92 M parameters.
_base_ = '../../_base_/recognizer3d.py'
model = dict(
    type='Recognizer2D',
    backbone=dict(type='ResNet', depth=50, norm_eval=False),
    cls_head=dict(type='TSNHead', num_classes=200, in_channels=2048),
    data_preprocessor=dict(format_shape='NCHW'))
