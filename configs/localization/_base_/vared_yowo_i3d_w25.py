# The dynamic form of yowo_i3d_w25.py, whose gates learn.
_base_ = 'yowo_i3d_w25.py'
model = dict(backbone=dict(type='VaRedInceptionI3d'), freeze_gates=False)
