# R(2+1)D-18 of fewer channels: no more MACs than the dynamic one takes in the paper, 8 frames.
_base_ = 'r2plus1d_r18_8xb12-8x8x1-120e_mini-kinetics200-rgb.py'
model = dict(backbone=dict(base_channels=54), cls_head=dict(in_channels=432))
