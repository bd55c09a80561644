# Table 11: dilated ResNet-18, static.
_base_ = [
    '../_base_/fcn_r18-d8.py', '../_base_/ade20k.py', '../_base_/sgd_100k.py',
    '../../_base_/static.py',
]
