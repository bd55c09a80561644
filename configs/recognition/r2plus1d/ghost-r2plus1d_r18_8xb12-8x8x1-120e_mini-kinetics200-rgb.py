# R(2+1)D-18 with Ghost modules on Mini-Kinetics-200, 8 frames; no row of the paper.
_base_ = [
    '../_base_/recognizer_r2plus1d.py', '../_base_/mini-kinetics200_8x8x128.py',
    '../_base_/sgd_120e.py', '../../_base_/static.py',
]
model = dict(backbone=dict(type='GhostR2Plus1d18'), cls_head=dict(num_classes=200))
