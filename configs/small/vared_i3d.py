# The dynamic form of i3d.py. Its first convolution, whose gate would see nothing but the mean
# colour and which is most of so narrow a network, stays static.
_base_ = ['_base_/clips_16.py', '../_base_/vared.py']
model = dict(
    backbone=dict(
        type='VaRedInceptionI3d',
        width=0.25,
        dynamic=dict(targets=r'(conv2\w+|mixed_\w+\.branch_\d\.\d)\.conv')),
    cls_head=dict(in_channels=256))
