# Table 3: TPN on R(2+1)D-18 on Mini-Kinetics-200, 16 frames, search space 2.
_base_ = [
    '../_base_/recognizer_tpn.py', '../_base_/mini-kinetics200_16x4x128.py',
    '../_base_/sgd_120e.py', '../../_base_/vared.py',
]
model = dict(backbone=dict(type='VaRedR2Plus1d18'))
