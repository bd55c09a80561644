# Table 3: TPN on R(2+1)D-18 on Mini-Kinetics-200, 8 frames, static.
_base_ = [
    '../_base_/recognizer_tpn.py', '../_base_/mini-kinetics200_8x8x128.py',
    '../_base_/sgd_120e.py', '../../_base_/static.py',
]
