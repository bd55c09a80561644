# Tables 2 and 13: X3D-M on Mini-Kinetics-200, 16 frames, static.
_base_ = [
    '../_base_/recognizer_x3d.py', '../_base_/mini-kinetics200_16x5x256.py',
    '../_base_/sgd_120e.py', '../../_base_/static.py',
]
model = dict(cls_head=dict(num_classes=200))
