# Table 7: R(2+1)D-18 on Mini-Kinetics-200, 16 frames, its smallest weights at zero.
_base_ = 'r2plus1d_r18_8xb12-16x4x1-120e_mini-kinetics200-rgb.py'
custom_hooks = [dict(type='PruneWeightsHook', share=40.3 / 55.08), *_base_.custom_hooks]
load_from = 'work_dirs/r2plus1d_r18_8xb12-16x4x1-120e_mini-kinetics200-rgb/epoch_120.pth'
