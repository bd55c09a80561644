# Table 5: I3D on Kinetics-400, 32 frames, search space 2.
_base_ = [
    '../_base_/recognizer_i3d.py', '../_base_/kinetics400_32x2x256.py',
    '../_base_/sgd_120e.py', '../../_base_/vared.py',
]
model = dict(backbone=dict(type='VaRedInceptionI3d'))
