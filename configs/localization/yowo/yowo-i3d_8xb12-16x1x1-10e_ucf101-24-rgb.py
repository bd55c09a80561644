# YOWO on I3D, static, on UCF101-24.
_base_ = [
    '../_base_/yowo_i3d.py', '../_base_/ucf101_24.py', '../_base_/adam_10e.py',
    '../../_base_/static.py',
]
checkpoint = 'work_dirs/i3d_inception_8xb12-16x4x1-120e_mini-kinetics200-rgb/epoch_120.pth'
model = dict(
    bbox_head=dict(num_classes=24), init_cfg=dict(type='Pretrained', checkpoint=checkpoint))
