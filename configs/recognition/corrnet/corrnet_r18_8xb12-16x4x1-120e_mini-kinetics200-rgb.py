# Table 4: CorrNet on Mini-Kinetics-200, 16 frames, static.
_base_ = [
    '../_base_/recognizer_corrnet.py', '../_base_/mini-kinetics200_16x4x128.py',
    '../_base_/sgd_120e.py', '../../_base_/static.py',
]
