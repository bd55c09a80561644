# The dynamic form of yowo-i3d_w25_motion_tubes.py, fine-tuned from it with its gates.
_base_ = [
    '../_base_/vared_yowo_i3d_w25.py', '../_base_/motion_tubes.py', '../_base_/adam_small.py',
    '../_base_/trained_gates.py',
]
model = dict(bbox_head=dict(num_classes=9))
load_from = 'work_dirs/yowo-i3d_w25_motion_tubes/epoch_20.pth'
