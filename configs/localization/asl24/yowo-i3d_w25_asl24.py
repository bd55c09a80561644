# A narrow YOWO on the hands of asl24, static: what the dynamic one starts from.
_base_ = [
    '../_base_/yowo_i3d_w25.py', '../_base_/asl24.py', '../_base_/adam_small.py',
    '../../_base_/static.py',
]
model = dict(bbox_head=dict(num_classes=24))
