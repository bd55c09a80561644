# I3D with Ghost modules on Mini-Kinetics-200, 16 frames; no row of the paper.
_base_ = [
    '../_base_/recognizer_i3d.py', '../_base_/mini-kinetics200_16x4x256.py',
    '../_base_/sgd_120e.py', '../../_base_/static.py',
]
model = dict(backbone=dict(type='GhostInceptionI3d'), cls_head=dict(num_classes=200))
