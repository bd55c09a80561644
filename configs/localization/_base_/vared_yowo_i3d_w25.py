# The dynamic form of yowo_i3d_w25.py, whose gates learn.
_base_ = ['yowo_i3d_w25.py', '../../_base_/four_largest.py']
model = dict(
    backbone=dict(type='VaRedInceptionI3d', dynamic=dict(targets=_base_.four_largest)),
    freeze_gates=False)
