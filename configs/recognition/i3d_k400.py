# Table 5: the paper's I3D on Kinetics-400, 16 frames, static.
_base_ = [
    '_base_/recognizer_i3d.py', '_base_/kinetics400_16x4x256.py', '_base_/sgd_120e.py',
    '../_base_/static.py',
]
