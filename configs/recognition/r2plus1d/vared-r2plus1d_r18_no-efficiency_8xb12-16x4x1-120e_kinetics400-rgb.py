# Table 9: R(2+1)D-18 on Kinetics-400, 16 frames, search space 2.
# The hooks are those of a static network: no efficiency loss.
_base_ = [
    '../_base_/recognizer_r2plus1d.py', '../_base_/kinetics400_16x4x128.py',
    '../_base_/sgd_120e.py', '../../_base_/static.py',
]
model = dict(backbone=dict(type='VaRedR2Plus1d18'))
