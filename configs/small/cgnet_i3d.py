# i3d.py with CGNet's convolutions, as cgnet_i3d_w12.py.
_base_ = ['_base_/clips_16.py', '../_base_/cgnet.py', '../_base_/four_largest.py']
model = dict(
    backbone=dict(
        type='CGNetInceptionI3d',
        width=0.25,
        cgnet=dict(targets=_base_.four_largest, partitions=3, threshold=0.25)),
    cls_head=dict(in_channels=256))
