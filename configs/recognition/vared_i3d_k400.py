# Tables 5 and 9: dynamic I3D on Kinetics-400, 16 frames, search space 2.
_base_ = [
    '_base_/recognizer_i3d.py', '_base_/kinetics400_16x4x256.py', '_base_/sgd_120e.py',
    '../_base_/vared.py',
]
model = dict(backbone=dict(type='VaRedInceptionI3d'))
