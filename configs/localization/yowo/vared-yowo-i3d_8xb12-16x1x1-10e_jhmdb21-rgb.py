# Table 8: YOWO on I3D, search space 2. Trunk and policy come from Mini-Kinetics-200; the gates stay
# as they are, and nothing is added to the losses.
_base_ = [
    '../_base_/yowo_i3d.py', '../_base_/jhmdb21.py', '../_base_/adam_10e.py',
    '../../_base_/static.py',
]
checkpoint = 'work_dirs/vared-i3d_inception_8xb12-16x4x1-120e_mini-kinetics200-rgb/epoch_120.pth'
model = dict(
    backbone=dict(type='VaRedInceptionI3d'),
    init_cfg=dict(type='Pretrained', checkpoint=checkpoint))
