# A narrow YOWO on generated tubes, static: what the dynamic one starts from.
_base_ = [
    '../_base_/yowo_i3d_w25.py', '../_base_/motion_tubes.py', '../_base_/adam_small.py',
    '../../_base_/static.py',
]
model = dict(bbox_head=dict(num_classes=9))
