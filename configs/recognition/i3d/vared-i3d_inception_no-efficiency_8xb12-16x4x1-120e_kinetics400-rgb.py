# Table 9: I3D on Kinetics-400, 16 frames, search space 2.
# The hooks are those of a static network: no efficiency loss.
_base_ = [
    '../_base_/recognizer_i3d.py', '../_base_/kinetics400_16x4x256.py',
    '../_base_/sgd_120e.py', '../../_base_/static.py',
]
model = dict(backbone=dict(type='VaRedInceptionI3d'))
