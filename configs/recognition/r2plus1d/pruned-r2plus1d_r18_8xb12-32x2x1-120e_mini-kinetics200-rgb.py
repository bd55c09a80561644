# Table 7: R(2+1)D-18 on Mini-Kinetics-200, 32 frames, its smallest weights at zero.
_base_ = 'r2plus1d_r18_8xb12-32x2x1-120e_mini-kinetics200-rgb.py'
custom_hooks = [dict(type='PruneWeightsHook', share=79.6 / 110.16), *_base_.custom_hooks]
load_from = 'work_dirs/r2plus1d_r18_8xb12-32x2x1-120e_mini-kinetics200-rgb/epoch_120.pth'
