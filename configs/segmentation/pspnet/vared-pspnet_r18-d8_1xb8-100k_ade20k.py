# The encoder of Table 11 under a PSPNet, channels reduced, search space 2.
_base_ = [
    '../_base_/pspnet_r18-d8.py', '../_base_/ade20k.py', '../_base_/sgd_100k.py',
    '../_base_/vared.py',
]
model = dict(backbone=dict(type='VaRedResNetV1c'))
