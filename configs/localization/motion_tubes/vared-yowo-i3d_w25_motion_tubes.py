# The dynamic form of yowo-i3d_w25_motion_tubes.py, fine-tuned from it with its gates.
_base_ = [
    '../_base_/vared_yowo_i3d_w25.py', '../_base_/motion_tubes.py', '../_base_/adamw_short.py',
    '../_base_/trained_gates.py',
]
load_from = 'work_dirs/yowo-i3d_w25_motion_tubes/epoch_6.pth'
