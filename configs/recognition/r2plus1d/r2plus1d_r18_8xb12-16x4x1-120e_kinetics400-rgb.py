# Table 5: R(2+1)D-18 on Kinetics-400, 16 frames, static.
_base_ = [
    '../_base_/recognizer_r2plus1d.py', '../_base_/kinetics400_16x4x128.py',
    '../_base_/sgd_120e.py', '../../_base_/static.py',
]
