# The dynamic form of yowo-i3d_w25_asl24.py, fine-tuned from it with its gates.
_base_ = [
    '../_base_/vared_yowo_i3d_w25.py', '../_base_/asl24.py', '../_base_/adam_small.py',
    '../_base_/trained_gates.py',
]
model = dict(bbox_head=dict(num_classes=24))
load_from = 'work_dirs/yowo-i3d_w25_asl24/epoch_20.pth'
