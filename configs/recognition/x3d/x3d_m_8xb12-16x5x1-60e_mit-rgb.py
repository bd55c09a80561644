# Table 6: X3D-M on Moments-In-Time, 16 frames, static.
_base_ = [
    '../_base_/recognizer_x3d.py', '../_base_/mit_16x5x256.py',
    '../_base_/sgd_60e.py', '../../_base_/static.py',
]
model = dict(cls_head=dict(num_classes=339))
