# A narrow YOWO on the hands of asl24, static: what the others start from. All of it but the last
# layer, whose classes are others, comes from the generated tubes.
_base_ = [
    '../_base_/yowo_i3d_w25.py', '../_base_/asl24.py', '../_base_/adamw_short.py',
    '../../_base_/static.py',
]
model = dict(
    bbox_head=dict(
        num_classes=24, anchors=[(1.0, 1.7), (1.2, 2.1), (1.4, 2.4), (1.8, 2.5), (2.3, 2.8)]))
load_from = 'work_dirs/yowo-i3d_w25_motion_tubes/epoch_6.pth'
