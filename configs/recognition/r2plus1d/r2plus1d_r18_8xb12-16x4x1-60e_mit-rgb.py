# Table 6: R(2+1)D-18 on Moments-In-Time, 16 frames, static.
_base_ = [
    '../_base_/recognizer_r2plus1d.py', '../_base_/mit_16x4x128.py',
    '../_base_/sgd_60e.py', '../../_base_/static.py',
]
model = dict(cls_head=dict(num_classes=339))
