# Tables 5 and 13: X3D-M on Kinetics-400, 16 frames, search space 2.
_base_ = [
    '../_base_/recognizer_x3d.py', '../_base_/kinetics400_16x5x256.py',
    '../_base_/sgd_120e.py', '../../_base_/vared.py',
]
model = dict(backbone=dict(type='VaRedX3D'))
