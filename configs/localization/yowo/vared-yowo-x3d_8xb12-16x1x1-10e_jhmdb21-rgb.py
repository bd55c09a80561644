# Table 8: YOWO on X3D-M, search space 2. Trunk and policy come from Mini-Kinetics-200; the gates
# stay as they are, and nothing is added to the losses.
_base_ = [
    '../_base_/yowo_x3d.py', '../_base_/jhmdb21.py', '../_base_/adam_10e.py',
    '../../_base_/static.py',
]
checkpoint = 'work_dirs/vared-x3d_m_8xb12-16x5x1-120e_mini-kinetics200-rgb/epoch_120.pth'
model = dict(
    backbone=dict(type='VaRedX3D'), init_cfg=dict(type='Pretrained', checkpoint=checkpoint))
