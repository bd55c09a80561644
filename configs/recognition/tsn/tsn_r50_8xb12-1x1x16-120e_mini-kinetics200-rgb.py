# Table 4: 2-D ResNet-50 on Mini-Kinetics-200, 16 frames, static.
_base_ = [
    '../_base_/recognizer_r50.py', '../_base_/mini-kinetics200_1x1x16x224.py',
    '../_base_/sgd_120e.py', '../../_base_/static.py',
]
