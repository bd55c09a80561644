# The dynamic form of yowo-i3d_w25_asl24.py, fine-tuned from it with its gates. The first
# convolution, whose gate would see nothing but the mean colour, stays static.
_base_ = [
    '../_base_/yowo_i3d_w25.py', '../_base_/asl24.py', '../_base_/adam_small.py',
    '../_base_/trained_gates.py',
]
model = dict(
    backbone=dict(
        type='VaRedInceptionI3d',
        dynamic=dict(targets=r'(conv2\w+|mixed_\w+\.branch_\d\.\d)\.conv')),
    bbox_head=dict(num_classes=24),
    freeze_gates=False)
load_from = 'work_dirs/yowo-i3d_w25_asl24/epoch_20.pth'
