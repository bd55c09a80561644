# Table 7: R(2+1)D-18 on Mini-Kinetics-200, 32 frames, CGNet at the paper's cost.
_base_ = [
    '../_base_/recognizer_r2plus1d.py', '../_base_/mini-kinetics200_32x2x128.py',
    '../_base_/sgd_120e.py', '../../_base_/cgnet.py',
]
model = dict(
    backbone=dict(type='CGNetR2Plus1d18', cgnet=dict(threshold=-0.89)),
    cls_head=dict(num_classes=200))
