# YOWO on X3D-M as in Table 8, but its gates learn on by the efficiency loss.
_base_ = [
    '../_base_/yowo_x3d.py', '../_base_/jhmdb21.py', '../_base_/adam_10e.py',
    '../_base_/trained_gates.py',
]
checkpoint = 'work_dirs/vared-x3d_m_8xb12-16x5x1-120e_mini-kinetics200-rgb/epoch_120.pth'
model = dict(
    backbone=dict(type='VaRedX3D'), freeze_gates=False,
    init_cfg=dict(type='Pretrained', checkpoint=checkpoint))
