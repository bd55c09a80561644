# Table 13: X3D-M on Kinetics-400, 16 frames, static, 256 epochs.
_base_ = [
    '../_base_/recognizer_x3d.py', '../_base_/kinetics400_16x5x256.py',
    '../_base_/sgd_256e.py', '../../_base_/static.py',
]
