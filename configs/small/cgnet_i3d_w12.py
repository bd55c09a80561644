# i3d_w12.py with CGNet's convolutions. The stem is four fifths of it: in three partitions, one for
# each of its input channels, it is gated too. At this threshold it costs by formula what
# vared_i3d_w12.py learns to (docs/results.md).
_base_ = ['_base_/clips_square.py', '../_base_/cgnet.py', '../_base_/four_largest.py']
model = dict(
    backbone=dict(
        type='CGNetInceptionI3d',
        width=0.125,
        cgnet=dict(targets=_base_.four_largest, partitions=3, threshold=0.25)),
    cls_head=dict(in_channels=128))
