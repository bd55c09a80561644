# The dynamic form of i3d.py, with gates on the four convolutions that are nine tenths of it: the
# others would hardly save MACs, no time, and cost accuracy (docs/results.md).
_base_ = ['_base_/clips_16.py', '../_base_/vared.py']
model = dict(
    backbone=dict(
        type='VaRedInceptionI3d',
        width=0.25,
        dynamic=dict(targets=r'(conv1a_7x7|conv2c_3x3|mixed_3\w\.branch_1\.1)\.conv')),
    cls_head=dict(in_channels=256))
