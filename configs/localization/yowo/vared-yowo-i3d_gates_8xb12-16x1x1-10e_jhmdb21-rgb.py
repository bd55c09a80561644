# YOWO on I3D as in Table 8, but its gates learn on by the efficiency loss.
_base_ = [
    '../_base_/yowo_i3d.py', '../_base_/jhmdb21.py', '../_base_/adam_10e.py',
    '../_base_/trained_gates.py',
]
checkpoint = 'work_dirs/vared-i3d_inception_8xb12-16x4x1-120e_mini-kinetics200-rgb/epoch_120.pth'
model = dict(
    backbone=dict(type='VaRedInceptionI3d'), freeze_gates=False,
    init_cfg=dict(type='Pretrained', checkpoint=checkpoint))
