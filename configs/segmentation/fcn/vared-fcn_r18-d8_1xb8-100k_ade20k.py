# Table 11: dilated ResNet-18, channels reduced, search space 2.
_base_ = [
    '../_base_/fcn_r18-d8.py', '../_base_/ade20k.py', '../_base_/sgd_100k.py',
    '../_base_/vared.py',
]
model = dict(backbone=dict(type='VaRedResNetV1c'))
