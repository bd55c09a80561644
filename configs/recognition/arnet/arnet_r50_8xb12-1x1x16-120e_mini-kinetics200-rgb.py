# Table 4: AR-Net on Mini-Kinetics-200, 16 frames.
_base_ = [
    '../_base_/recognizer_arnet.py', '../_base_/mini-kinetics200_1x1x16x224.py',
    '../_base_/sgd_120e.py', '../../_base_/static.py',
]
