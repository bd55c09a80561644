# The dynamic form of i3d_w12.py, with gates where vared_i3d.py has them.
_base_ = ['_base_/clips_square.py', '../_base_/vared.py']
model = dict(
    backbone=dict(
        type='VaRedInceptionI3d',
        width=0.125,
        dynamic=dict(targets=r'(conv1a_7x7|conv2c_3x3|mixed_3\w\.branch_1\.1)\.conv')),
    cls_head=dict(in_channels=128))
