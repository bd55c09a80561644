# Tables 1, 2 and 10: R(2+1)D-18 on Mini-Kinetics-200, 16 frames, search space 2.
_base_ = [
    '../_base_/recognizer_r2plus1d.py', '../_base_/mini-kinetics200_16x4x128.py',
    '../_base_/sgd_120e.py', '../../_base_/vared.py',
]
model = dict(backbone=dict(type='VaRedR2Plus1d18'), cls_head=dict(num_classes=200))
