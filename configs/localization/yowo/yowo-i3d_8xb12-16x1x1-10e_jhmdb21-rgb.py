# Table 8: YOWO on I3D, static. The trunk comes from Mini-Kinetics-200.
_base_ = [
    '../_base_/yowo_i3d.py', '../_base_/jhmdb21.py', '../_base_/adam_10e.py',
    '../../_base_/static.py',
]
checkpoint = 'work_dirs/i3d_inception_8xb12-16x4x1-120e_mini-kinetics200-rgb/epoch_120.pth'
model = dict(init_cfg=dict(type='Pretrained', checkpoint=checkpoint))
