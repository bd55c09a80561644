# CamVid: the network of Table 11, static.
_base_ = [
    '../_base_/fcn_r18-d8_camvid.py', '../_base_/camvid.py', '../_base_/sgd_10k.py',
    '../../_base_/static.py',
]
