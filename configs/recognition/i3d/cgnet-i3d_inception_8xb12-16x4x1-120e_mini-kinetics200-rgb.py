# I3D on Mini-Kinetics-200, 16 frames, CGNet; no row of the paper.
_base_ = [
    '../_base_/recognizer_i3d.py', '../_base_/mini-kinetics200_16x4x256.py',
    '../_base_/sgd_120e.py', '../../_base_/cgnet.py',
]
model = dict(
    backbone=dict(type='CGNetInceptionI3d', cgnet=dict(threshold=1.0)),
    cls_head=dict(num_classes=200))
