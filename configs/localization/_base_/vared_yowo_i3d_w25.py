# The dynamic form of yowo_i3d_w25.py, whose gates learn. The first convolution, whose gate would
# see nothing but the mean colour, stays static.
_base_ = 'yowo_i3d_w25.py'
model = dict(
    backbone=dict(
        type='VaRedInceptionI3d',
        dynamic=dict(targets=r'(conv2\w+|mixed_\w+\.branch_\d\.\d)\.conv')),
    freeze_gates=False)
