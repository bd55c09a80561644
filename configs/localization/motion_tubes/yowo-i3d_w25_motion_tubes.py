# A narrow YOWO on generated tubes, static: what the others start from. `bash tools/demo.sh` trains
# its trunk on the same motions.
_base_ = [
    '../_base_/yowo_i3d_w25.py', '../_base_/motion_tubes.py', '../_base_/adamw_short.py',
    '../../_base_/static.py',
]
model = dict(init_cfg=dict(type='Pretrained', checkpoint='work_dirs/i3d_motion/epoch_20.pth'))
