# CamVid: a quarter of the channels, static; minutes on a CPU.
_base_ = [
    '../_base_/fcn_r18w16-d8_camvid.py', '../_base_/camvid.py', '../_base_/sgd_2k.py',
    '../../_base_/static.py',
]
