# The encoder of Table 11 under a PSPNet, static.
_base_ = [
    '../_base_/pspnet_r18-d8.py', '../_base_/ade20k.py', '../_base_/sgd_100k.py',
    '../../_base_/static.py',
]
